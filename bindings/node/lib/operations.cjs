'use strict';

const native = require('./native.cjs');
const { onAbort } = require('./abort.cjs');
const { RocketMQError } = require('./error.cjs');

// How many promises are resolved before other events are handled.
const BATCH = 256;

class Failure {
  constructor(fields) {
    this.fields = fields;
  }
}

// The functions that resolve the promises of operations in progress, by operation id.
const waiting = new Map();

// Created with the first operation, because it starts a thread.
let completions;

function drain() {
  const done = completions.drain(BATCH);
  for (let i = 0; i < done.length; i += 3) {
    const resolve = waiting.get(done[i]);
    // Missing if it was aborted.
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

/** The queue of this environment. */
function queue() {
  return (completions ??= new native.Completions(drain));
}

/** The result of an operation. `submit` starts it and returns its id. */
async function run(submit, signal) {
  const value = await (signal ? untilAborted(submit, signal) : outcome(submit));
  // Created after the `await`, so that the stack has the callers.
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
