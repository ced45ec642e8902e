'use strict';

const { run } = require('./operations.cjs');
const { settled } = require('./settled.cjs');
const { Delivery, contentOf, deliveries, leaseOf } = require('./delivery.cjs');
const { closeOptions, milliseconds, receiveOptions, signalOf } = require('./arguments.cjs');
const { asyncDispose } = require('./dispose.cjs');

class SimpleConsumer {
  #native;

  constructor(native) {
    this.#native = native;
  }

  async receive(options = {}) {
    const { signal, ...given } = receiveOptions(options, 'options');
    const received = await run(() => this.#native.receive(given), signal);
    const leases = received.pop();
    return received.map((fields, index) => new Delivery(fields, leases, index));
  }

  async *deliveries(options) {
    for (;;) {
      const received = await this.receive(options);
      let yielded = 0;
      try {
        while (yielded < received.length) yield received[yielded++];
      } finally {
        // The loop was left before the end of the batch: the next receive gets the rest.
        const rest = received.slice(yielded);
        if (rest.length > 0) this.#native.putBack(...leaseOf(rest[0]), rest.map(contentOf));
      }
    }
  }

  async ack(delivery, call) {
    const lease = leaseOf(delivery, 'delivery');
    return await run(() => this.#native.ack(...lease), signalOf(call));
  }

  async ackAll(given, call) {
    const held = deliveries(given, 'deliveries');
    // Each object of leases is passed once, because that is the most expensive part.
    const leases = [...new Set(held.map(([of]) => of))];
    const numbers = new Map(leases.map((of, number) => [of, number]));
    const places = held.flatMap(([of, index]) => [numbers.get(of), index]);
    return settled(await run(() => this.#native.ackAll(leases, places), signalOf(call)));
  }

  async changeInvisible(delivery, invisibleMs, call) {
    const lease = leaseOf(delivery, 'delivery');
    const given = milliseconds(invisibleMs, 'invisibleMs');
    return await run(() => this.#native.changeInvisible(...lease, given), signalOf(call));
  }

  async close(options = {}) {
    const { deadlineMs, signal } = closeOptions(options, 'options');
    return await run(() => this.#native.close(deadlineMs), signal);
  }

  async [asyncDispose]() {
    await this.close();
  }
}

module.exports = { SimpleConsumer };
