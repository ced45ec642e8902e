'use strict';

// Streams of deliveries.

const { run } = require('./operations.cjs');
const { deliveriesOf } = require('./delivery.cjs');
const { asyncDispose } = require('./async-dispose.cjs');

/** A stream of deliveries. Like a generator, it ends when a call of `next` fails. */
class Messages {
  #native;
  // The native consumer closes when it is collected, which would end this stream.
  #consumer;
  #group;
  #signal;
  #observers;
  #ended = false;

  constructor(native, consumer, group, signal, observers) {
    this.#native = native;
    this.#consumer = consumer;
    this.#group = group;
    this.#signal = signal;
    this.#observers = observers;
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  async next() {
    if (this.#ended) return { done: true, value: undefined };
    try {
      const received = await this.#observers.receiving(this.#group, async () => {
        const list = await run(() => this.#native.next(), this.#signal);
        return list === null ? [] : deliveriesOf(list);
      });
      this.#ended ||= received.length === 0;
      return { done: received.length === 0, value: received[0] };
    } catch (error) {
      // A loop does not call `return` after a failure. The close is not awaited, so that the failure is not delayed.
      this.close().catch(() => {});
      throw error;
    }
  }

  async return(value) {
    await this.close();
    return { done: true, value };
  }

  async close() {
    this.#ended = true;
    await run(() => this.#native.close());
  }

  async [asyncDispose]() {
    await this.close();
  }
}

module.exports = { Messages };
