'use strict';

const { inspect } = require('node:util');

/** An object that the console and logs show by these fields, none of which is secret. */
class Shown {
  #fields;

  constructor(fields) {
    this.#fields = fields;
  }

  toString() {
    return inspect(this);
  }

  [inspect.custom](_, options) {
    return `${this.constructor.name} ${inspect(this.#fields, { ...options, depth: 0 })}`;
  }
}

module.exports = { Shown };
