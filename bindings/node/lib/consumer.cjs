'use strict';

const { answer, run } = require('./operations.cjs');
const { settled } = require('./settled.cjs');
const { deliveries, deliveriesOf, leaseOf } = require('./delivery.cjs');
const {
  closeOptions,
  milliseconds,
  receiveOptions,
  signalOf,
  streamOptions,
  string,
  subscription,
} = require('./arguments.cjs');
const { asyncDispose } = require('./dispose.cjs');
const { LiteConsumer } = require('./lite.cjs');
const { Messages } = require('./messages.cjs');

class SimpleConsumer extends LiteConsumer {
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
    return new Messages(answer(this.#native.messages(given)), this.#group, signal, this.#observers);
  }

  async ack(delivery, call) {
    const lease = leaseOf(delivery, 'delivery');
    const signal = signalOf(call);
    await this.#settle(delivery, 'ack', () => this.#native.ack(...lease), signal);
  }

  async ackAll(given, call) {
    const list = [...deliveries(given, 'deliveries')];
    const signal = signalOf(call);
    const held = list.map((delivery) => leaseOf(delivery));
    // Each object of leases is passed once, because that is the most expensive part.
    const leases = [...new Set(held.map(([of]) => of))];
    const numbers = new Map(leases.map((of, number) => [of, number]));
    const places = held.flatMap(([of, index]) => [numbers.get(of), index]);
    return await this.#observers.settlingAll(this.#group, list, 'ack', async () =>
      settled(await run(() => this.#native.ackAll(leases, places), signal)),
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
    answer(this.#native.keepLease(...lease, milliseconds(maxMs, 'maxMs')));
  }

  async subscribe(given, call) {
    const checked = subscription(given, 'subscription');
    await run(() => this.#native.subscribe(checked), signalOf(call));
  }

  async unsubscribe(topic, call) {
    const given = string(topic, 'topic');
    await run(() => this.#native.unsubscribe(given), signalOf(call));
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
