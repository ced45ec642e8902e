'use strict';

// Loads the native library.

// The suffixes of the native packages' names. npm installs the package for the platform. Some package managers install
// both packages for Linux, of which only one loads.
const ABIS = { linux: ['-gnu', '-musl'], darwin: [''] };

/** Loads the native library for this platform. */
function load() {
  const { platform, arch } = process;
  if (ABIS[platform] === undefined) throw new Error(`rocketmq-thin runs on Linux and macOS, and does not support ${platform} yet`);
  const names = ABIS[platform].map((abi) => `@rocketmq-thin/${platform}-${arch}${abi}`);
  const reasons = [];
  for (const name of names) {
    try {
      return require(name);
    } catch (reason) {
      reasons.push(reason);
    }
  }
  const advice = 'install rocketmq-thin without --omit=optional, on the system that runs it';
  const cause = reasons.length === 1 ? reasons[0] : new AggregateError(reasons);
  throw new Error(`rocketmq-thin needs ${names.join(' or ')}, which does not load: ${advice}`, { cause });
}

module.exports = load();
