'use strict';

// Passes log records and status changes of clients to the application's logger.

const { newLogs, run, unwrap } = require('./operations.cjs');
const { start } = require('./handler-runner.cjs');

// From the most to the least verbose.
const LEVELS = ['debug', 'info', 'warn', 'error'];

// The subscription of each logger: the log records of all clients, and the number of clients that use the logger.
const subscriptions = new Map();

/** Passes log records to the logger of a client. Returns a function that ends this for the client. */
function followLogs(logger, observers) {
  const level = logger && LEVELS.find((name) => typeof logger[name] === 'function');
  if (level === undefined) return () => {};
  let subscription = subscriptions.get(logger);
  if (subscription === undefined) {
    subscriptions.set(logger, (subscription = { logs: newLogs(level), clients: 0 }));
    start(forward(subscription.logs, observers), observers);
  }
  subscription.clients++;
  return () => {
    if (--subscription.clients > 0) return;
    subscriptions.delete(logger);
    subscription.logs.close();
  };
}

async function forward(logs, observers) {
  while ((await run(() => logs.wait(), undefined, true)) !== null) {
    for (const { level, message, fields } of unwrap(logs.take())) observers.log(level, message, fields);
  }
}

/** Logs each change of a client's status, until the client is closed. */
async function logStatus(changes, observers) {
  for await (const { status, error } of changes) {
    const level = status === 'lost' || status === 'degraded' ? 'warn' : 'info';
    observers.log(level, `the client is ${status}`, ...(error ? [error] : []));
  }
}

module.exports = { followLogs, logStatus };
