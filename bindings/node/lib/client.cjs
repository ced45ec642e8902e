'use strict';

const { answer, each, queue, run } = require('./operations.cjs');
const {
  clientOptions,
  closeOptions,
  credentials,
  producerOptions,
  pushConsumerOptions,
  signalOf,
  simpleConsumerOptions,
} = require('./arguments.cjs');
const { unlessAborted } = require('./abort.cjs');
const { answerChecks, logStatus, renewCredentials, start } = require('./background.cjs');
const { asyncDispose } = require('./dispose.cjs');
const { RocketMQError } = require('./error.cjs');
const { Observers } = require('./observers.cjs');
const { Producer } = require('./producer.cjs');
const { PushConsumer } = require('./push.cjs');
const { SimpleConsumer } = require('./consumer.cjs');

class Client {
  #native;
  #observers;

  constructor(native, observers) {
    this.#native = native;
    this.#observers = observers;
  }

  static async connect(options, call) {
    const { logger, interceptors, ...given } = clientOptions(options, 'options');
    const signal = signalOf(call);
    const observers = new Observers(logger, interceptors);
    const provider = typeof given.credentials === 'function' ? given.credentials : undefined;
    if (provider !== undefined) {
      signal?.throwIfAborted();
      const provided = (async () => await provider({ signal }))();
      given.credentials = credentials(await unlessAborted(provided, signal), 'the provided credentials');
    }
    const native = await run(() => queue().connect(given), signal);
    const client = new Client(native, observers);
    if (provider !== undefined) start(renewCredentials(native, provider, observers), observers);
    if (logger !== undefined) start(logStatus(client.statusChanges(), observers), observers);
    return client;
  }

  async producer(options = {}, call) {
    const { checker, ...given } = producerOptions(options, 'options');
    const native = await run(() => this.#native.producer(given), signalOf(call));
    if (checker !== undefined) {
      start(answerChecks(answer(native.orphanChecks()), checker, this.#observers), this.#observers);
    }
    return new Producer(native, this.#observers);
  }

  async simpleConsumer(options, call) {
    const given = simpleConsumerOptions(options, 'options');
    const native = await run(() => this.#native.simpleConsumer(given), signalOf(call));
    return new SimpleConsumer(native, given.group, this.#observers);
  }

  async pushConsumer(options, call) {
    const { handler, ...given } = pushConsumerOptions(options, 'options');
    const native = await run(() => this.#native.pushConsumer(given), signalOf(call));
    return new PushConsumer(native, { group: given.group, handler }, this.#observers);
  }

  health() {
    return healthOf(answer(this.#native.health()));
  }

  statusChanges(call) {
    const signal = signalOf(call);
    const changes = answer(this.#native.statusChanges());
    return each(() => changes.next(), signal, healthOf);
  }

  async close(options = {}) {
    const { deadlineMs, signal } = closeOptions(options, 'options');
    return await run(() => this.#native.close(deadlineMs), signal);
  }

  async [asyncDispose]() {
    await this.close();
  }
}

function healthOf({ endpoints, ...health }) {
  return { ...withError(health), endpoints: endpoints.map(withError) };
}

function withError(fields) {
  return { ...fields, error: fields.error && new RocketMQError(fields.error) };
}

module.exports = { Client };
