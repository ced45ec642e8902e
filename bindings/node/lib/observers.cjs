'use strict';

// Calls the application's logger, interceptors and OpenTelemetry.

const { isObject } = require('./arguments.cjs');

let openTelemetry;

/** Returns the application's OpenTelemetry API, or `null` if it has none. */
function telemetry() {
  if (openTelemetry === undefined) {
    try {
      openTelemetry = require('@opentelemetry/api');
    } catch {
      openTelemetry = null;
    }
  }
  return openTelemetry;
}

/** The application's logger, interceptors and OpenTelemetry. Their failures have no effect on a call. */
class Observers {
  #logger;
  #interceptors;

  constructor(logger = {}, interceptors = []) {
    this.#logger = logger;
    this.#interceptors = interceptors;
  }

  /** Whether there are interceptors. */
  get intercepting() {
    return this.#interceptors.length > 0;
  }

  /** Logs a message, if the application has a logger for this level. */
  log(level, message, ...details) {
    try {
      this.#logger[level]?.(message, ...details);
    } catch {
      // A failure of the logger cannot be logged.
    }
  }

  /** Calls a function of each interceptor before an operation, in order. */
  #before(name, ...args) {
    for (const interceptor of this.#interceptors) this.#call(interceptor, name, args);
  }

  /** Calls a function of each interceptor after an operation, in the reverse order. */
  #after(name, ...args) {
    for (const interceptor of this.#interceptors.toReversed()) this.#call(interceptor, name, args);
  }

  #call(interceptor, name, args) {
    try {
      interceptor[name]?.(...args);
    } catch (error) {
      this.log('warn', `the interceptor's ${name} failed`, error);
    }
  }

  /** Returns the message to send: with the active trace context, and with the changes of interceptors. */
  sending(message) {
    if (!isObject(message)) return message;
    const traced = this.#withTrace(message);
    if (this.#interceptors.length === 0) return traced;
    const changed = { ...traced, properties: { ...traced.properties } };
    this.#before('beforeSend', changed);
    return changed;
  }

  #withTrace(message) {
    const api = telemetry();
    if (api === null) return message;
    const trace = {};
    try {
      api.propagation.inject(api.context.active(), trace);
    } catch (error) {
      this.log('warn', 'failed to add the trace context to a message', error);
    }
    if (Object.keys(trace).length === 0) return message;
    return { ...message, properties: { ...trace, ...message.properties } };
  }

  /** Returns the outcome of a send, and calls `afterSend` with it. */
  sent(message, sending) {
    return this.#observe(sending, 'afterSend', message);
  }

  /** Sends several messages with `send` and returns its results. */
  sendingAll(messages, send) {
    return this.#observeAll(send, 'afterSend', messages);
  }

  /** Calls `receive` and returns its deliveries. */
  receiving(group, receive) {
    const info = { group };
    this.#before('beforeReceive', info);
    return this.#observe(receive(), 'afterReceive', info);
  }

  /** Settles a delivery with `settle` and returns its outcome. */
  settling(group, delivery, settlement, settle) {
    const info = { group, delivery, settlement };
    this.#before('beforeSettle', info);
    return this.#observe(settle(), 'afterSettle', info);
  }

  /** Settles several deliveries with `settle` and returns its results. */
  async settlingAll(group, deliveries, settlement, settle) {
    if (this.#interceptors.length === 0) return await settle();
    const infos = deliveries.map((delivery) => ({ group, delivery, settlement }));
    for (const info of infos) this.#before('beforeSettle', info);
    return await this.#observeAll(settle, 'afterSettle', infos);
  }

  /** Calls interceptors with each result of `submit`. If it fails as a whole, each result is that failure. */
  async #observeAll(submit, name, infos) {
    if (this.#interceptors.length === 0) return await submit();
    try {
      const results = await submit();
      results.forEach((result, index) => this.#after(name, infos[index], result));
      return results;
    } catch (reason) {
      for (const info of infos) this.#after(name, info, { status: 'rejected', reason });
      throw reason;
    }
  }

  /** Calls interceptors with the result of a promise. Without interceptors it avoids the cost of another promise. */
  #observe(promise, name, info) {
    return this.#interceptors.length === 0 ? promise : this.#observeResult(promise, name, info);
  }

  async #observeResult(promise, name, info) {
    try {
      const value = await promise;
      this.#after(name, info, { status: 'fulfilled', value });
      return value;
    } catch (reason) {
      this.#after(name, info, { status: 'rejected', reason });
      throw reason;
    }
  }

  /** Calls a handler in the trace context of the delivery. */
  within(delivery, handler, options) {
    const api = telemetry();
    if (api === null || delivery.traceParent === undefined) return handler(delivery, options);
    let context;
    try {
      const carrier = { ...delivery.properties, traceparent: delivery.traceParent };
      context = api.propagation.extract(api.context.active(), carrier);
    } catch (error) {
      this.log('warn', 'failed to read the trace context of a message', error);
      return handler(delivery, options);
    }
    return api.context.with(context, handler, undefined, delivery, options);
  }
}

module.exports = { Observers };
