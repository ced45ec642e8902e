'use strict';

/** The name of the method that `await using` calls. Without `Symbol.asyncDispose`, it is the symbol of polyfills. */
const asyncDispose = Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose');

module.exports = { asyncDispose };
