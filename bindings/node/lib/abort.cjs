'use strict';

// The callbacks of each signal. A signal has one listener for all of them, because Node warns of a leak above ten
// listeners.
const callbacks = new WeakMap();

function abort({ currentTarget }) {
  const called = callbacks.get(currentTarget);
  callbacks.delete(currentTarget);
  for (const callback of called) callback();
}

/** Calls `callback` when `signal` aborts. Returns a function that cancels this. */
function onAbort(signal, callback) {
  let waiting = callbacks.get(signal);
  if (waiting === undefined) {
    callbacks.set(signal, (waiting = new Set()));
    signal.addEventListener('abort', abort, { once: true });
  }
  waiting.add(callback);
  return () => {
    if (!waiting.delete(callback) || waiting.size > 0) return;
    callbacks.delete(signal);
    signal.removeEventListener('abort', abort);
  };
}

module.exports = { onAbort };
