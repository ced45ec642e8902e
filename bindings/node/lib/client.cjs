'use strict';

const { queue, run } = require('./operations.cjs');
const { checked } = require('./options.cjs');
const { Producer } = require('./producer.cjs');
const { SimpleConsumer } = require('./consumer.cjs');
const { asyncDispose } = require('./dispose.cjs');

class Client {
  #native;

  constructor(native) {
    this.#native = native;
  }

  static async connect(options, { signal } = {}) {
    checked('connect', options);
    return new Client(await run(() => queue().connect(options), signal));
  }

  async producer(options = {}, { signal } = {}) {
    checked('producer', options);
    return new Producer(await run(() => this.#native.producer(options), signal));
  }

  async simpleConsumer(options, { signal } = {}) {
    checked('simpleConsumer', options);
    return new SimpleConsumer(await run(() => this.#native.simpleConsumer(options), signal));
  }

  close({ deadlineMs, signal } = {}) {
    return run(() => this.#native.close(deadlineMs), signal);
  }

  async [asyncDispose]() {
    await this.close();
  }
}

module.exports = { Client };
