'use strict';

/** What `await using` calls; where the runtime doesn't know it yet, the name that polyfills register. */
const asyncDispose = Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose');

module.exports = { asyncDispose };
