'use strict';

// Clients. The public documentation of all classes is in index.d.cts.

const { iterate, newCredentialRequests, queue, run, unwrap } = require('./operations.cjs');
const {
  clientOptions,
  closeOptions,
  producerOptions,
  pushConsumerOptions,
  signalOf,
  simpleConsumerOptions,
} = require('./arguments.cjs');
const { answerChecks, provideCredentials, start } = require('./handler-runner.cjs');
const { asyncDispose } = require('./async-dispose.cjs');
const { RocketMQError } = require('./error.cjs');
const { followLogs, logStatus } = require('./logs.cjs');
const { Observers } = require('./observers.cjs');
const { Producer } = require('./producer.cjs');
const { explainForgottenAwait } = require('./forgotten-await.cjs');
const { PushConsumer, closeAndAbort } = require('./push-consumer.cjs');
const { Inspectable } = require('./inspectable.cjs');
const { SimpleConsumer } = require('./simple-consumer.cjs');

class Client extends Inspectable {
  #native;
  #endpoints;
  #observers;
  // Each aborts the signal of the handlers of an open push consumer.
  #controllers = new Set();

  constructor(native, endpoints, observers) {
    if (!(observers instanceof Observers)) throw new TypeError('a client is created with `await Client.connect(...)`');
    super({ endpoints });
    this.#native = native;
    this.#endpoints = endpoints;
    this.#observers = observers;
  }

  static connect(options, call) {
    return explainForgottenAwait(Client.#connect(options, call), Client, 'Client.connect(...)');
  }

  static async #connect(options, call) {
    const { logger, interceptors, ...given } = clientOptions(options, 'options');
    const signal = signalOf(call);
    signal?.throwIfAborted();
    const observers = new Observers(logger, interceptors);
    let requests;
    if (typeof given.credentials === 'function') {
      requests = newCredentialRequests();
      start(provideCredentials(requests, given.credentials, signal, observers), observers);
      given.credentials = undefined;
    }
    const unfollow = followLogs(logger, observers);
    try {
      const native = await run(() => queue().connect(given, requests), signal);
      const client = new Client(native, given.endpoints.join(','), observers);
      if (logger !== undefined) start(logStatus(client.statusChanges(), observers).finally(unfollow), observers);
      return client;
    } catch (error) {
      unfollow();
      throw error;
    }
  }

  producer(options = {}, call) {
    return explainForgottenAwait(this.#producer(options, call), Producer, 'client.producer(...)');
  }

  async #producer(options, call) {
    const { checker, ...given } = producerOptions(options, 'options');
    const native = await run(() => this.#native.producer(given), signalOf(call));
    if (checker !== undefined) {
      start(answerChecks(unwrap(native.orphanChecks()), checker, this.#observers), this.#observers);
    }
    return new Producer(native, this.#endpoints, this.#observers);
  }

  simpleConsumer(options, call) {
    return explainForgottenAwait(this.#simpleConsumer(options, call), SimpleConsumer, 'client.simpleConsumer(...)');
  }

  async #simpleConsumer(options, call) {
    const given = simpleConsumerOptions(options, 'options');
    const native = await run(() => this.#native.simpleConsumer(given), signalOf(call));
    return new SimpleConsumer(native, given.group, this.#endpoints, this.#observers);
  }

  pushConsumer(options, call) {
    return explainForgottenAwait(this.#pushConsumer(options, call), PushConsumer, 'client.pushConsumer(...)');
  }

  async #pushConsumer(options, call) {
    const { handler, ...given } = pushConsumerOptions(options, 'options');
    const native = await run(() => this.#native.pushConsumer(given), signalOf(call));
    const own = { group: given.group, handler, controllers: this.#controllers };
    return new PushConsumer(native, own, this.#endpoints, this.#observers);
  }

  health() {
    return healthOf(unwrap(this.#native.health()));
  }

  metrics() {
    return unwrap(this.#native.metrics());
  }

  statusChanges(call) {
    const signal = signalOf(call);
    const changes = unwrap(this.#native.statusChanges());
    return iterate(() => changes.next(), signal, healthOf);
  }

  async close(options = {}) {
    const { deadlineMs, signal } = closeOptions(options, 'options');
    return await closeAndAbort(() => this.#native.close(deadlineMs), signal, this.#controllers);
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
