'use strict';

// Push consumers.

const { run, unwrap } = require('./operations.cjs');
const { closeOptions } = require('./arguments.cjs');
const { handleTasks, start } = require('./handler-runner.cjs');
const { asyncDispose } = require('./async-dispose.cjs');
const { Consumer } = require('./consumer.cjs');

// Aborts the signal of handlers that are still running after a close.
const abortHandlers = Symbol('abortHandlers');

class PushConsumer extends Consumer {
  #native;
  #controller = new AbortController();

  constructor(native, options, endpoints, observers) {
    super(native, { group: options.group, endpoints });
    this.#native = native;
    start(handleTasks(native, options, this.#controller.signal, observers), observers);
  }

  pause() {
    unwrap(this.#native.pause());
  }

  resume() {
    unwrap(this.#native.resume());
  }

  get isPaused() {
    return unwrap(this.#native.isPaused());
  }

  async close(options = {}) {
    const { deadlineMs, signal } = closeOptions(options, 'options');
    try {
      return await run(() => this.#native.close(deadlineMs), signal);
    } finally {
      this[abortHandlers]();
    }
  }

  [abortHandlers]() {
    this.#controller.abort();
  }

  async [asyncDispose]() {
    await this.close();
  }
}

module.exports = { PushConsumer, abortHandlers };
