'use strict';

const { answer, run } = require('./operations.cjs');
const { closeOptions } = require('./arguments.cjs');
const { handleTasks, start } = require('./background.cjs');
const { asyncDispose } = require('./dispose.cjs');
const { LiteConsumer } = require('./lite.cjs');

class PushConsumer extends LiteConsumer {
  #native;
  #controller = new AbortController();

  constructor(native, options, endpoints, observers) {
    super(native, { group: options.group, endpoints });
    this.#native = native;
    start(handleTasks(native, options, this.#controller.signal, observers), observers);
  }

  pause() {
    answer(this.#native.pause());
  }

  resume() {
    answer(this.#native.resume());
  }

  get isPaused() {
    return answer(this.#native.isPaused());
  }

  async close(options = {}) {
    const { deadlineMs, signal } = closeOptions(options, 'options');
    try {
      return await run(() => this.#native.close(deadlineMs), signal);
    } finally {
      // Aborts the signal of handlers that still run.
      this.#controller.abort();
    }
  }

  async [asyncDispose]() {
    await this.close();
  }
}

module.exports = { PushConsumer };
