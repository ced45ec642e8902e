'use strict';

// Received messages.

const { listOf, refuse } = require('./arguments.cjs');

let leaseOf;

class Delivery {
  // The leases of all deliveries of one receive, and the index of this delivery among them.
  #leases;
  #index;

  constructor(fields, leases, index) {
    if (leases === undefined) throw new TypeError('a Delivery comes from a consumer; it cannot be created with `new Delivery`');
    this.messageId = fields.messageId;
    this.topic = fields.topic;
    this.body = fields.body;
    this.tag = fields.tag;
    this.keys = fields.keys;
    this.properties = fromPairs(fields.properties);
    this.messageGroup = fields.messageGroup;
    this.deliverAt = date(fields.deliverAt);
    this.priority = fields.priority;
    this.liteTopic = fields.liteTopic;
    this.deadLetterOrigin = fields.deadLetterOrigin;
    this.traceParent = fields.traceParent;
    this.bornAt = date(fields.bornAt);
    this.bornHost = fields.bornHost;
    this.storedAt = date(fields.storedAt);
    this.attempt = fields.attempt;
    this.corrupted = fields.corrupted;
    this.queueId = fields.queueId;
    this.queueOffset = fields.queueOffset;
    this.#leases = leases;
    this.#index = index;
  }

  get isLeaseLost() {
    return this.#leases.isLost(this.#index);
  }

  static {
    leaseOf = (delivery, path) => {
      const received = typeof delivery === 'object' && delivery !== null && #leases in delivery;
      return received ? [delivery.#leases, delivery.#index] : refuse(delivery, path, 'a Delivery that was received');
    };
  }
}

/** Converts alternating names and values to an object. */
function fromPairs(flat) {
  const object = {};
  for (let i = 0; i < flat.length; i += 2) {
    // Defined instead of assigned, because assigning `__proto__` would set the prototype.
    Object.defineProperty(object, flat[i], {
      value: flat[i + 1],
      enumerable: true,
      configurable: true,
      writable: true,
    });
  }
  return object;
}

function date(millis) {
  return millis === undefined ? undefined : new Date(millis);
}

/** Creates the deliveries of a list whose last entry is their leases. */
function deliveriesOf(list) {
  const leases = list.pop();
  return list.map((fields, index) => new Delivery(fields, leases, index));
}

const deliveries = listOf((delivery, path) => leaseOf(delivery, path) && delivery, 'an iterable of deliveries');

// Everything except `Delivery` is internal.
module.exports = { Delivery, deliveries, deliveriesOf, leaseOf, fromPairs };
