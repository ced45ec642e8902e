'use strict';

const { run } = require('./operations.cjs');
const { settled } = require('./settled.cjs');
const { asyncDispose } = require('./dispose.cjs');

class Producer {
  #native;

  constructor(native) {
    this.#native = native;
  }

  send(message, options) {
    return run(() => this.#native.send(message), options?.signal);
  }

  async sendAll(messages, { signal } = {}) {
    return settled(await run(() => this.#native.sendAll(Array.from(messages)), signal));
  }

  close({ deadlineMs, signal } = {}) {
    return run(() => this.#native.close(deadlineMs), signal);
  }

  async [asyncDispose]() {
    await this.close();
  }
}

module.exports = { Producer };
