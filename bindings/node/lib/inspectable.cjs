'use strict';

const { inspect } = require('node:util');

/** The base class of objects that consoles and logs show with these fields, none of which is secret. */
class Inspectable {
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

module.exports = { Inspectable };
