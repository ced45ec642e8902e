'use strict';

const { asyncDispose } = require('./async-dispose.cjs');

/**
 * Adds the methods of the promised object to its promise. They throw an error that names the forgotten `await`.
 *
 * @template T
 * @param {Promise<T>} promise the promise of an asynchronous function
 * @param {Function} promisedClass the class of the promised object
 * @param {string} call the call of the function, as the caller writes it
 * @returns {Promise<T>} the same promise
 */
function explainForgottenAwait(promise, promisedClass, call) {
  const fail = () => {
    throw new TypeError(`${call} returns a promise; write \`await ${call}\``);
  };
  for (const name of [...methodNames(promisedClass), asyncDispose]) {
    Object.defineProperty(promise, name, { value: fail, configurable: true });
  }
  return promise;
}

/** Returns the names of a class's methods, including inherited methods. */
function methodNames(type) {
  const names = [];
  for (let { prototype } = type; prototype !== Object.prototype; prototype = Object.getPrototypeOf(prototype)) {
    names.push(...Object.getOwnPropertyNames(prototype));
  }
  return names.filter((name) => name !== 'constructor' && name !== 'toString');
}

module.exports = { explainForgottenAwait };
