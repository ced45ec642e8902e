'use strict';

// Lite topics.

const { iterate, run, unwrap } = require('./operations.cjs');
const { signalOf, string } = require('./arguments.cjs');
const { Inspectable } = require('./inspectable.cjs');

/** The base class of simple and push consumers: their subscriptions to lite topics. */
class LiteConsumer extends Inspectable {
  #native;

  constructor(native, fields) {
    super(fields);
    this.#native = native;
  }

  async subscribeLite(liteTopic, call) {
    const given = string(liteTopic, 'liteTopic');
    await run(() => this.#native.subscribeLite(given), signalOf(call));
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
    const revocations = unwrap(this.#native.liteRevocations());
    return iterate(() => revocations.next(), signal, (liteTopic) => liteTopic);
  }
}

module.exports = { LiteConsumer };
