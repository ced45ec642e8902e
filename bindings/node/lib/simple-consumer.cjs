'use strict';

// Simple consumers.

const { run, unwrap } = require('./operations.cjs');
const { toSettledResults } = require('./all-settled.cjs');
const { deliveries, deliveriesOf, leaseOf } = require('./delivery.cjs');
const {
  closeOptions,
  milliseconds,
  receiveOptions,
  signalOf,
  streamOptions,
} = require('./arguments.cjs');
const { asyncDispose } = require('./async-dispose.cjs');
const { Consumer } = require('./consumer.cjs');
const { Messages } = require('./messages.cjs');

class SimpleConsumer extends Consumer {
  #native;
  #group;
  #observers;

  constructor(native, group, endpoints, observers) {
    super(native, { group, endpoints });
    this.#native = native;
    this.#group = group;
    this.#observers = observers;
  }

  async receive(options = {}) {
    const { signal, ...given } = receiveOptions(options, 'options');
    return await this.#observers.receiving(this.#group, async () =>
      deliveriesOf(await run(() => this.#native.receive(given), signal)),
    );
  }

  messages(options = {}) {
    const { signal, ...given } = streamOptions(options, 'options');
    return new Messages(unwrap(this.#native.messages(given)), this, this.#group, signal, this.#observers);
  }

  async ack(delivery, call) {
    const lease = leaseOf(delivery, 'delivery');
    const signal = signalOf(call);
    await this.#settle(delivery, 'ack', () => this.#native.ack(...lease), signal);
  }

  async ackAll(given, call) {
    const list = [...deliveries(given, 'deliveries')];
    const signal = signalOf(call);
    const leases = list.map((delivery) => leaseOf(delivery));
    // Each batch is passed once, because passing native objects is expensive.
    const batches = [...new Set(leases.map(([batch]) => batch))];
    const batchIndexes = new Map(batches.map((batch, index) => [batch, index]));
    const positions = leases.flatMap(([batch, index]) => [batchIndexes.get(batch), index]);
    return await this.#observers.settlingAll(this.#group, list, 'ack', async () =>
      toSettledResults(await run(() => this.#native.ackAll(batches, positions), signal)),
    );
  }

  async changeInvisible(delivery, invisibleMs, call) {
    const lease = leaseOf(delivery, 'delivery');
    const given = milliseconds(invisibleMs, 'invisibleMs');
    const signal = signalOf(call);
    await this.#settle(delivery, 'changeInvisible', () => this.#native.changeInvisible(...lease, given), signal);
  }

  async nack(delivery, afterMs, call) {
    const lease = leaseOf(delivery, 'delivery');
    const given = milliseconds(afterMs, 'afterMs');
    const signal = signalOf(call);
    await this.#settle(delivery, 'retry', () => this.#native.nack(...lease, given), signal);
  }

  async deadLetter(delivery, call) {
    const lease = leaseOf(delivery, 'delivery');
    const signal = signalOf(call);
    await this.#settle(delivery, 'deadLetter', () => this.#native.deadLetter(...lease), signal);
  }

  keepLease(delivery, maxMs) {
    const lease = leaseOf(delivery, 'delivery');
    unwrap(this.#native.keepLease(...lease, milliseconds(maxMs, 'maxMs')));
  }

  async close(options = {}) {
    const { deadlineMs, signal } = closeOptions(options, 'options');
    return await run(() => this.#native.close(deadlineMs), signal);
  }

  async [asyncDispose]() {
    await this.close();
  }

  async #settle(delivery, settlement, submit, signal) {
    await this.#observers.settling(this.#group, delivery, settlement, () => run(submit, signal));
  }
}

module.exports = { SimpleConsumer };
