'use strict';

const { isObject } = require('./arguments.cjs');

let openTelemetry;

/** The application's OpenTelemetry API, or `null` if it has none. */
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

  /** Logs a message, if the application has a logger for this level. */
  log(level, message, ...details) {
    try {
      this.#logger[level]?.(message, ...details);
    } catch {
      // There is nowhere left to report it.
    }
  }

  /** Of several interceptors, the first is told first before an operation. */
  #before(name, ...told) {
    for (const interceptor of this.#interceptors) this.#tell(interceptor, name, told);
  }

  /** And last after it. */
  #after(name, ...told) {
    for (const interceptor of this.#interceptors.toReversed()) this.#tell(interceptor, name, told);
  }

  #tell(interceptor, name, told) {
    try {
      interceptor[name]?.(...told);
    } catch (error) {
      this.log('warn', `the interceptor's ${name} failed`, error);
    }
  }

  /** The message as it is sent: with the trace that is active, and what interceptors have changed. */
  sending(message) {
    if (!isObject(message)) return message;
    const traced = this.#traced(message);
    if (this.#interceptors.length === 0) return traced;
    const changed = { ...traced, properties: { ...traced.properties } };
    this.#before('beforeSend', changed);
    return changed;
  }

  #traced(message) {
    const api = telemetry();
    if (api === null) return message;
    const trace = {};
    try {
      api.propagation.inject(api.context.active(), trace);
    } catch (error) {
      this.log('warn', 'the trace context could not be added to a message', error);
    }
    if (Object.keys(trace).length === 0) return message;
    return { ...message, properties: { ...trace, ...message.properties } };
  }

  /** The outcome of a send, of which `afterSend` is told. */
  sent(message, sending) {
    return this.#told(sending, 'afterSend', message);
  }

  /** The outcomes of several sends. */
  allSent(messages, results) {
    if (this.#interceptors.length > 0) results.forEach((result, index) => this.#after('afterSend', messages[index], result));
    return results;
  }

  /** The deliveries that `receive` resolves to. */
  receiving(group, receive) {
    const told = { group };
    this.#before('beforeReceive', told);
    return this.#told(receive(), 'afterReceive', told);
  }

  /** The outcome of settling a delivery. */
  settling(group, delivery, settlement, settle) {
    const told = { group, delivery, settlement };
    this.#before('beforeSettle', told);
    return this.#told(settle(), 'afterSettle', told);
  }

  /** The outcomes of settling several deliveries. */
  async settlingAll(group, deliveries, settlement, settle) {
    if (this.#interceptors.length === 0) return await settle();
    const told = deliveries.map((delivery) => ({ group, delivery, settlement }));
    for (const each of told) this.#before('beforeSettle', each);
    const results = await settle();
    results.forEach((result, index) => this.#after('afterSettle', told[index], result));
    return results;
  }

  /** A message of a push consumer whose handler has ended. Its settlement has no outcome here. */
  handled(group, delivery, settlement) {
    this.#before('beforeSettle', { group, delivery, settlement });
  }

  /** A promise less for those who have no interceptors, because each takes time. */
  #told(calling, name, told) {
    return this.#interceptors.length === 0 ? calling : this.#toldAfter(calling, name, told);
  }

  async #toldAfter(calling, name, told) {
    try {
      const value = await calling;
      this.#after(name, told, { status: 'fulfilled', value });
      return value;
    } catch (reason) {
      this.#after(name, told, { status: 'rejected', reason });
      throw reason;
    }
  }

  /** Calls a handler within the trace that a delivery continues. */
  within(delivery, handler, options) {
    const api = telemetry();
    if (api === null || delivery.traceParent === undefined) return handler(delivery, options);
    let context;
    try {
      const carrier = { ...delivery.properties, traceparent: delivery.traceParent };
      context = api.propagation.extract(api.context.active(), carrier);
    } catch (error) {
      this.log('warn', 'the trace context of a message could not be read', error);
      return handler(delivery, options);
    }
    return api.context.with(context, handler, undefined, delivery, options);
  }
}

module.exports = { Observers };
