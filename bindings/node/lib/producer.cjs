'use strict';

const { run } = require('./operations.cjs');
const { closeOptions, message, messages, signalOf } = require('./arguments.cjs');
const { settled } = require('./settled.cjs');
const { asyncDispose } = require('./dispose.cjs');

class Producer {
  #native;

  constructor(native) {
    this.#native = native;
  }

  async send(given, call) {
    const checked = message(given, 'message');
    return await run(() => this.#native.send(checked), signalOf(call));
  }

  async sendAll(given, call) {
    const checked = messages(given, 'messages');
    return settled(await run(() => this.#native.sendAll(checked), signalOf(call)));
  }

  async close(options = {}) {
    const { deadlineMs, signal } = closeOptions(options, 'options');
    return await run(() => this.#native.close(deadlineMs), signal);
  }

  async [asyncDispose]() {
    await this.close();
  }
}

module.exports = { Producer };
