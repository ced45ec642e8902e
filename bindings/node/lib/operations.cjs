'use strict';

const native = require('./native.cjs');
const { onAbort } = require('./abort.cjs');
const { RocketMQError } = require('./error.cjs');

// So many promises are resolved before other events get their turn.
const BATCH = 256;

class Failure {
  constructor(fields) {
    this.fields = fields;
  }
}

// What resolves the operations under way, by their ids. The native side completes them; one wake-up resolves many.
const waiting = new Map();

// Made with the first operation, because it starts a thread.
let completions;

function drain() {
  const done = completions.drain(BATCH);
  for (let i = 0; i < done.length; i += 3) {
    const resolve = waiting.get(done[i]);
    // Not there: it was aborted.
    if (resolve === undefined) continue;
    forget(done[i]);
    resolve(done[i + 1] ? new Failure(done[i + 2]) : done[i + 2]);
  }
}

function remember(id, resolve) {
  if (waiting.size === 0) completions.hold();
  waiting.set(id, resolve);
}

function forget(id) {
  waiting.delete(id);
  if (waiting.size === 0) completions.release();
}

/** The queue that operations without a handle of their own are submitted to. */
function queue() {
  return (completions ??= new native.Completions(drain));
}

/** What an operation came to, which `submit` starts and gives the id of. */
async function run(submit, signal) {
  const value = await (signal ? untilAborted(submit, signal) : outcome(submit));
  // Thrown here, after the `await`, because then its stack names the callers that wait for it.
  if (!(value instanceof Failure)) return value;
  throw value.fields instanceof Error ? value.fields : new RocketMQError(value.fields);
}

function outcome(submit) {
  return new Promise((resolve) => remember(submit(), resolve));
}

function untilAborted(submit, signal) {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const id = submit();
    const ignore = onAbort(signal, () => {
      completions.cancel(id);
      forget(id);
      reject(signal.reason);
    });
    remember(id, (value) => {
      ignore();
      resolve(value);
    });
  });
}

module.exports = { queue, run };
