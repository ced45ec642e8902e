'use strict';

const { answer, each, run } = require('./operations.cjs');
const { signalOf, string } = require('./arguments.cjs');
const { Shown } = require('./shown.cjs');

/** What simple and push consumers of lite topics have in common. */
class LiteConsumer extends Shown {
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
    return answer(this.#native.liteTopics());
  }

  liteRevocations(call) {
    const signal = signalOf(call);
    const revocations = answer(this.#native.liteRevocations());
    return each(() => revocations.next(), signal, (liteTopic) => liteTopic);
  }
}

module.exports = { LiteConsumer };
