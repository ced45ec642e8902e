'use strict';

const KNOWN = {
  connect: [
    'endpoints',
    'namespace',
    'credentials',
    'tls',
    'requestTimeoutMs',
    'operationTimeoutMs',
    'startupTimeoutMs',
    'retry',
  ],
  producer: ['topics', 'maxInFlightMessages', 'maxInFlightBytes'],
  simpleConsumer: ['group', 'subscriptions', 'maxBodySize'],
  receive: ['maxMessages', 'invisibleMs', 'awaitMs'],
};

/** Refuses options that nobody would read: a misspelt timeout must not pass for one that was set. */
function checked(operation, options) {
  const unknown = Object.keys(options).find((name) => !KNOWN[operation].includes(name));
  if (unknown !== undefined) {
    throw new TypeError(`${operation}: unknown option ${unknown} (known are ${KNOWN[operation].join(', ')})`);
  }
}

module.exports = { checked };
