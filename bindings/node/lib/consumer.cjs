'use strict';

// What simple and push consumers have in common.

const { iterate, run, unwrap } = require('./operations.cjs');
const { signalOf, string, subscribeLiteOptions, subscription } = require('./arguments.cjs');
const { Inspectable } = require('./inspectable.cjs');

/** The base class of simple and push consumers: their subscriptions to topics and lite topics. */
class Consumer extends Inspectable {
  #native;

  constructor(native, fields) {
    super(fields);
    this.#native = native;
  }

  async subscribe(given, call) {
    const checked = subscription(given, 'subscription');
    await run(() => this.#native.subscribe(checked), signalOf(call));
  }

  async unsubscribe(topic, call) {
    const given = string(topic, 'topic');
    await run(() => this.#native.unsubscribe(given), signalOf(call));
  }

  subscriptions() {
    return unwrap(this.#native.subscriptions());
  }

  async subscribeLite(liteTopic, options = {}) {
    const given = string(liteTopic, 'liteTopic');
    const { start, signal } = subscribeLiteOptions(options, 'options');
    await run(() => this.#native.subscribeLite(given, start), signal);
  }

  async unsubscribeLite(liteTopic, call) {
    const given = string(liteTopic, 'liteTopic');
    await run(() => this.#native.unsubscribeLite(given), signalOf(call));
  }

  liteTopics() {
    return unwrap(this.#native.liteTopics());
  }

  liteRevocations(call) {
    const signal = signalOf(call);
    return this.#iterateRevocations(unwrap(this.#native.liteRevocations()), signal);
  }

  // A generator keeps the object of its method alive. The native consumer closes when it is collected, which would end
  // the iteration.
  async *#iterateRevocations(revocations, signal) {
    yield* iterate(() => revocations.next(), signal, (liteTopic) => liteTopic);
  }
}

module.exports = { Consumer };
