'use strict';

const { answer, logs, run } = require('./operations.cjs');
const { start } = require('./background.cjs');

// From the finest to the coarsest.
const LEVELS = ['debug', 'info', 'warn', 'error'];

// Each logger, the reports that it follows, and how many clients have it. The reports are those of all clients.
const followed = new Map();

/** Passes on what clients report to the logger of one. Returns a function that ends this for this client. */
function followLogs(logger, observers) {
  const level = logger && LEVELS.find((name) => typeof logger[name] === 'function');
  if (level === undefined) return () => {};
  let follower = followed.get(logger);
  if (follower === undefined) {
    followed.set(logger, (follower = { reports: logs(level), clients: 0 }));
    start(forward(follower.reports, observers), observers);
  }
  follower.clients++;
  return () => {
    if (--follower.clients > 0) return;
    followed.delete(logger);
    follower.reports.close();
  };
}

async function forward(reports, observers) {
  while ((await run(() => reports.arrived(), undefined, true)) !== null) {
    for (const { level, message, fields } of answer(reports.take())) observers.log(level, message, fields);
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
