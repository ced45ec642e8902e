'use strict';

const { run } = require('./operations.cjs');
const { settled } = require('./settled.cjs');
const { Delivery, leaseOf } = require('./delivery.cjs');
const { checked } = require('./options.cjs');
const { asyncDispose } = require('./dispose.cjs');

class SimpleConsumer {
  #native;

  constructor(native) {
    this.#native = native;
  }

  async receive({ signal, ...options } = {}) {
    checked('receive', options);
    const deliveries = await run(() => this.#native.receive(options), signal);
    const leases = deliveries.pop();
    return deliveries.map((fields, index) => new Delivery(fields, leases, index));
  }

  async *deliveries(options) {
    for (;;) yield* await this.receive(options);
  }

  ack(delivery, { signal } = {}) {
    return run(() => this.#native.ack(...leaseOf(delivery)), signal);
  }

  async ackAll(deliveries, { signal } = {}) {
    const held = Array.from(deliveries, leaseOf);
    // Each object of leases crosses over once: that costs more than all else here.
    const leases = [...new Set(held.map(([of]) => of))];
    const numbers = new Map(leases.map((of, number) => [of, number]));
    const places = held.flatMap(([of, index]) => [numbers.get(of), index]);
    return settled(await run(() => this.#native.ackAll(leases, places), signal));
  }

  changeInvisible(delivery, invisibleMs, { signal } = {}) {
    return run(() => this.#native.changeInvisible(...leaseOf(delivery), invisibleMs), signal);
  }

  close({ deadlineMs, signal } = {}) {
    return run(() => this.#native.close(deadlineMs), signal);
  }

  async [asyncDispose]() {
    await this.close();
  }
}

module.exports = { SimpleConsumer };
