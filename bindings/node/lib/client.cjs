'use strict';

const { answer, credentialRequests, each, queue, run } = require('./operations.cjs');
const {
  clientOptions,
  closeOptions,
  producerOptions,
  pushConsumerOptions,
  signalOf,
  simpleConsumerOptions,
} = require('./arguments.cjs');
const { answerChecks, provideCredentials, start } = require('./background.cjs');
const { asyncDispose } = require('./dispose.cjs');
const { RocketMQError } = require('./error.cjs');
const { followLogs, logStatus } = require('./logs.cjs');
const { Observers } = require('./observers.cjs');
const { Producer } = require('./producer.cjs');
const { promised } = require('./promised.cjs');
const { PushConsumer } = require('./push.cjs');
const { Shown } = require('./shown.cjs');
const { SimpleConsumer } = require('./consumer.cjs');

class Client extends Shown {
  #native;
  #endpoints;
  #observers;

  constructor(native, endpoints, observers) {
    if (!(observers instanceof Observers)) throw new TypeError('a client is made with `await Client.connect(...)`');
    super({ endpoints });
    this.#native = native;
    this.#endpoints = endpoints;
    this.#observers = observers;
  }

  static connect(options, call) {
    return promised(Client.#connect(options, call), Client, 'Client.connect(...)');
  }

  static async #connect(options, call) {
    const { logger, interceptors, ...given } = clientOptions(options, 'options');
    const signal = signalOf(call);
    signal?.throwIfAborted();
    const observers = new Observers(logger, interceptors);
    let requests;
    if (typeof given.credentials === 'function') {
      requests = credentialRequests();
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
    return promised(this.#producer(options, call), Producer, 'client.producer(...)');
  }

  async #producer(options, call) {
    const { checker, ...given } = producerOptions(options, 'options');
    const native = await run(() => this.#native.producer(given), signalOf(call));
    if (checker !== undefined) {
      start(answerChecks(answer(native.orphanChecks()), checker, this.#observers), this.#observers);
    }
    return new Producer(native, this.#endpoints, this.#observers);
  }

  simpleConsumer(options, call) {
    return promised(this.#simpleConsumer(options, call), SimpleConsumer, 'client.simpleConsumer(...)');
  }

  async #simpleConsumer(options, call) {
    const given = simpleConsumerOptions(options, 'options');
    const native = await run(() => this.#native.simpleConsumer(given), signalOf(call));
    return new SimpleConsumer(native, given.group, this.#endpoints, this.#observers);
  }

  pushConsumer(options, call) {
    return promised(this.#pushConsumer(options, call), PushConsumer, 'client.pushConsumer(...)');
  }

  async #pushConsumer(options, call) {
    const { handler, ...given } = pushConsumerOptions(options, 'options');
    const native = await run(() => this.#native.pushConsumer(given), signalOf(call));
    return new PushConsumer(native, { group: given.group, handler }, this.#endpoints, this.#observers);
  }

  health() {
    return healthOf(answer(this.#native.health()));
  }

  metrics() {
    return answer(this.#native.metrics());
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
