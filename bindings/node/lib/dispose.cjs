'use strict';

/** The method that `await using` calls. Runtimes without it use the symbol of polyfills. */
const asyncDispose = Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose');

module.exports = { asyncDispose };
