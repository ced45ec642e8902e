'use strict';

const { platform } = require('./platform.cjs');

/** The native library for this machine, out of the package that npm chose by system, processor and libc. */
function load() {
  const name = `@rocketmq-thin/${platform()}`;
  try {
    return require(name);
  } catch (cause) {
    if (cause.code !== 'MODULE_NOT_FOUND') throw cause;
    const advice = 'install rocketmq-thin without --omit=optional, on the system that runs it';
    throw new Error(`rocketmq-thin needs ${name}, which is not installed: ${advice}`, { cause });
  }
}

module.exports = load();
