'use strict';

// What to do when a signal aborts. One listener for each signal, because Node warns of a leak above ten, and a signal
// for many calls at once is no leak.
const callbacks = new WeakMap();

function abort({ currentTarget }) {
  const called = callbacks.get(currentTarget);
  callbacks.delete(currentTarget);
  for (const callback of called) callback();
}

/** Calls `callback` when `signal` aborts, unless the function that is given back is called before. */
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
