'use strict';

// Operations and the promises of their outcomes.

const native = require('./native.cjs');
const { onAbort } = require('./on-abort.cjs');
const { RocketMQError } = require('./error.cjs');

// The maximum number of promises that are resolved before other events are handled.
const MAX_OUTCOMES = 256;

class Failure {
  constructor(fields) {
    this.fields = fields;
  }
}

// The functions that resolve the promises of operations in progress, by operation id.
const resolvers = new Map();

// The ids of background operations, which do not keep the process running, and the number of operations that do.
const backgroundIds = new Set();
let foregroundCount = 0;

// Created with the first operation, because it starts a thread.
let completions;

function drain() {
  const done = completions.drain(MAX_OUTCOMES);
  for (let i = 0; i < done.length; i += 3) {
    const resolve = resolvers.get(done[i]);
    // Undefined if the operation was aborted.
    if (resolve === undefined) continue;
    forget(done[i]);
    resolve(done[i + 1] ? new Failure(done[i + 2]) : done[i + 2]);
  }
}

function remember(id, resolve, background) {
  resolvers.set(id, resolve);
  if (background) backgroundIds.add(id);
  else if (foregroundCount++ === 0) completions.hold();
}

function forget(id) {
  resolvers.delete(id);
  if (!backgroundIds.delete(id) && --foregroundCount === 0) completions.release();
}

/** Returns the queue of this environment: of the main thread, or of a worker. */
function queue() {
  return (completions ??= new native.Completions(drain));
}

/** Creates the credential requests of a client that is not connected yet. */
function newCredentialRequests() {
  return new native.CredentialRequests(queue());
}

/** Collects the log records of the clients of this process from now on, of this level and of more severe ones. */
function newLogs(level) {
  return new native.Logs(queue(), level);
}

/**
 * Starts an operation by calling `submit`, which returns the operation's id. Resolves to the operation's result, or
 * throws its error. A `background` operation does not keep the process running.
 */
async function run(submit, signal, background = false) {
  const value = await (signal ? untilAborted(submit, signal, background) : untilDone(submit, background));
  // The error is created after the `await`, so that its stack contains the callers.
  if (!(value instanceof Failure)) return value;
  throw value.fields instanceof Error ? value.fields : new RocketMQError(value.fields);
}

/** Returns the value of a native function that does not wait, or throws its failure. */
function unwrap([failed, value]) {
  if (failed) throw new RocketMQError(value);
  return value;
}

/** Yields the values of a native stream until it ends. `next` submits the operation for the next value. */
async function* iterate(next, signal, convert) {
  for (;;) {
    const value = await run(next, signal, true);
    if (value === null) return;
    yield convert(value);
  }
}

function untilDone(submit, background) {
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

module.exports = { iterate, newCredentialRequests, newLogs, queue, run, unwrap };
