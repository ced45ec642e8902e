'use strict';

// Producers and transactions.

const { run, unwrap } = require('./operations.cjs');
const { closeOptions, isObject, listOf, message, messages, refuse, signalOf, string } = require('./arguments.cjs');
const { toSettledResults } = require('./all-settled.cjs');
const { asyncDispose } = require('./async-dispose.cjs');
const { Inspectable } = require('./inspectable.cjs');

/** Sends a message with a native producer or transaction. */
async function send(native, observers, given, call) {
  const sent = observers.sending(given);
  const checked = message(sent, 'message');
  return await observers.sent(sent, run(() => native.send(checked), signalOf(call)));
}

class Producer extends Inspectable {
  #native;
  #observers;

  constructor(native, endpoints, observers) {
    super({ endpoints });
    this.#native = native;
    this.#observers = observers;
  }

  send(given, call) {
    return send(this.#native, this.#observers, given, call);
  }

  async sendAll(given, call) {
    const sent = listOf((each) => this.#observers.sending(each), 'an iterable of messages')(given, 'messages');
    return await this.#observers.sendingAll(sent, async () => {
      const checked = messages(sent, 'messages');
      return toSettledResults(await run(() => this.#native.sendAll(checked), signalOf(call)));
    });
  }

  async recall(receipt, call) {
    if (!isObject(receipt)) refuse(receipt, 'receipt', 'a receipt');
    const topic = string(receipt.topic, 'receipt.topic');
    // The client refuses an empty handle.
    const handle = string(receipt.recallHandle ?? '', 'receipt.recallHandle');
    return await run(() => this.#native.recall(topic, handle), signalOf(call));
  }

  begin() {
    return new Transaction(unwrap(this.#native.begin()), this.#observers);
  }

  async close(options = {}) {
    const { deadlineMs, signal } = closeOptions(options, 'options');
    return await run(() => this.#native.close(deadlineMs), signal);
  }

  async [asyncDispose]() {
    await this.close();
  }
}

class Transaction {
  #native;
  #observers;
  #decided = false;

  constructor(native, observers) {
    this.#native = native;
    this.#observers = observers;
  }

  send(given, call) {
    return send(this.#native, this.#observers, given, call);
  }

  async commit(call) {
    const signal = signalOf(call);
    this.#decided = true;
    await run(() => this.#native.commit(), signal);
  }

  async rollback(call) {
    const signal = signalOf(call);
    this.#decided = true;
    await run(() => this.#native.rollback(), signal);
  }

  async [asyncDispose]() {
    if (!this.#decided) await this.rollback();
  }
}

module.exports = { Producer, Transaction };
