'use strict';

const { queue, run } = require('./operations.cjs');
const { clientOptions, closeOptions, producerOptions, signalOf, simpleConsumerOptions } = require('./arguments.cjs');
const { Producer } = require('./producer.cjs');
const { SimpleConsumer } = require('./consumer.cjs');
const { asyncDispose } = require('./dispose.cjs');

class Client {
  #native;

  constructor(native) {
    this.#native = native;
  }

  static async connect(options, call) {
    const given = clientOptions(options, 'options');
    return new Client(await run(() => queue().connect(given), signalOf(call)));
  }

  async producer(options = {}, call) {
    const given = producerOptions(options, 'options');
    return new Producer(await run(() => this.#native.producer(given), signalOf(call)));
  }

  async simpleConsumer(options, call) {
    const given = simpleConsumerOptions(options, 'options');
    return new SimpleConsumer(await run(() => this.#native.simpleConsumer(given), signalOf(call)));
  }

  async close(options = {}) {
    const { deadlineMs, signal } = closeOptions(options, 'options');
    return await run(() => this.#native.close(deadlineMs), signal);
  }

  async [asyncDispose]() {
    await this.close();
  }
}

module.exports = { Client };
