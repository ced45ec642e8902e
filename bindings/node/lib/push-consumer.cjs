'use strict';

// Push consumers.

const { run, unwrap } = require('./operations.cjs');
const { closeOptions } = require('./arguments.cjs');
const { handleTasks, start } = require('./handler-runner.cjs');
const { asyncDispose } = require('./async-dispose.cjs');
const { Consumer } = require('./consumer.cjs');
const { onAbort } = require('./on-abort.cjs');

/**
 * Submits a close. When it has ended, aborts the signals of handlers that are still running. Like any close, it continues
 * if `signal` ends the wait for it.
 */
async function closeAndAbort(submit, signal, controllers) {
  signal?.throwIfAborted();
  const closing = run(submit).finally(() => controllers.forEach((controller) => controller.abort()));
  return await new Promise((resolve, reject) => {
    const ignore = signal && onAbort(signal, () => reject(signal.reason));
    closing.then(resolve, reject).finally(() => ignore?.());
  });
}

class PushConsumer extends Consumer {
  #native;
  #controller = new AbortController();

  constructor(native, options, endpoints, observers) {
    super(native, { group: options.group, endpoints });
    this.#native = native;
    const [controller, { controllers }] = [this.#controller, options];
    controllers.add(controller);
    onAbort(controller.signal, () => controllers.delete(controller));
    start(handleTasks(native, options, controller.signal, observers), observers);
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
    return await closeAndAbort(() => this.#native.close(deadlineMs), signal, [this.#controller]);
  }

  async [asyncDispose]() {
    await this.close();
  }
}

module.exports = { PushConsumer, closeAndAbort };
