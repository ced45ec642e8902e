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

// The operations in progress that do not keep the process running, and the number of those that do.
const idle = new Set();
let held = 0;

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

function remember(id, resolve, background) {
  waiting.set(id, resolve);
  if (background) idle.add(id);
  else if (held++ === 0) completions.hold();
}

function forget(id) {
  waiting.delete(id);
  if (!idle.delete(id) && --held === 0) completions.release();
}

/** The queue of this environment. */
function queue() {
  return (completions ??= new native.Completions(drain));
}

/** The requests of a client that is about to connect for its credentials. */
function credentialRequests() {
  return new native.CredentialRequests(queue());
}

/** What the clients of this process report from now on, up to this level. */
function logs(level) {
  return new native.Logs(queue(), level);
}

/**
 * The result of an operation. `submit` starts it and returns its id. One in the `background` does not keep the process
 * running.
 */
async function run(submit, signal, background = false) {
  const value = await (signal ? untilAborted(submit, signal, background) : outcome(submit, background));
  // Created after the `await`, so that the stack has the callers.
  if (!(value instanceof Failure)) return value;
  throw value.fields instanceof Error ? value.fields : new RocketMQError(value.fields);
}

/** The result of a native function that does not wait. */
function answer([failed, value]) {
  if (failed) throw new RocketMQError(value);
  return value;
}

/** What the operations that `next` starts result in, until there is no more. */
async function* each(next, signal, convert) {
  for (;;) {
    const value = await run(next, signal, true);
    if (value === null) return;
    yield convert(value);
  }
}

function outcome(submit, background) {
  return new Promise((resolve) => remember(submit(), resolve, background));
}

function untilAborted(submit, signal, background) {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const id = submit();
    const ignore = onAbort(signal, () => {
      completions.cancel(id);
      forget(id);
      reject(signal.reason);
    });
    const settle = (value) => {
      ignore();
      resolve(value);
    };
    remember(id, settle, background);
  });
}

module.exports = { answer, credentialRequests, each, logs, queue, run };
