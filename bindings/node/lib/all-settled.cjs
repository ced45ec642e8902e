'use strict';

const { RocketMQError } = require('./error.cjs');

/** Converts a flat list (failed, value, failed, value, ...) to results in the form of `Promise.allSettled`. */
function toSettledResults(flat) {
  const results = [];
  for (let i = 0; i < flat.length; i += 2) {
    results.push(
      flat[i]
        ? { status: 'rejected', reason: new RocketMQError(flat[i + 1]) }
        : { status: 'fulfilled', value: flat[i + 1] },
    );
  }
  return results;
}

module.exports = { toSettledResults };
