'use strict';

const { asyncDispose } = require('./dispose.cjs');

/**
 * Gives a promise the methods of what it promises. They throw, and say which `await` was forgotten.
 *
 * @template T
 * @param {Promise<T>} promise the result of an asynchronous function
 * @param {Function} made the class of what it promises
 * @param {string} call how the function was called
 * @returns {Promise<T>}
 */
function promised(promise, made, call) {
  const forgotten = () => {
    throw new TypeError(`${call} returns a promise; write \`await ${call}\``);
  };
  for (const name of [...methods(made), asyncDispose]) {
    Object.defineProperty(promise, name, { value: forgotten, configurable: true });
  }
  return promise;
}

/** The names of a class's methods, inherited ones included. */
function methods(made) {
  const names = [];
  for (let { prototype } = made; prototype !== Object.prototype; prototype = Object.getPrototypeOf(prototype)) {
    names.push(...Object.getOwnPropertyNames(prototype));
  }
  return names.filter((name) => name !== 'constructor' && name !== 'toString');
}

module.exports = { promised };
