'use strict';

// Callbacks for the abort of an `AbortSignal`.

// The callbacks of each signal. Each signal has a single listener, because Node warns of a leak if a signal has more
// than ten.
const callbacks = new WeakMap();

function abort({ currentTarget }) {
  const registered = callbacks.get(currentTarget);
  callbacks.delete(currentTarget);
  for (const callback of registered) callback();
}

/** Calls `callback` when `signal` aborts. Returns a function that unregisters the callback. */
function onAbort(signal, callback) {
  let registered = callbacks.get(signal);
  if (registered === undefined) {
    callbacks.set(signal, (registered = new Set()));
    signal.addEventListener('abort', abort, { once: true });
  }
  registered.add(callback);
  return () => {
    if (!registered.delete(callback) || registered.size > 0) return;
    callbacks.delete(signal);
    signal.removeEventListener('abort', abort);
  };
}

module.exports = { onAbort };
