'use strict';

/** This machine as the names of the native packages put it: `linux-x64-gnu`, `darwin-arm64`, ... */
function platform() {
  const { platform: os, arch } = process;
  if (os === 'win32') return `${os}-${arch}-msvc`;
  if (os !== 'linux') return `${os}-${arch}`;
  const glibc = process.report.getReport().header.glibcVersionRuntime;
  return `${os}-${arch}-${glibc ? 'gnu' : 'musl'}`;
}

module.exports = { platform };
