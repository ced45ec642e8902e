'use strict';

let leaseOf;

class Delivery {
  // The leases of all deliveries of one receive, and the place of this one among them.
  #leases;
  #index;

  constructor(fields, leases, index) {
    this.messageId = fields.messageId;
    this.topic = fields.topic;
    this.body = fields.body;
    this.tag = fields.tag;
    this.keys = fields.keys;
    this.properties = pairs(fields.properties);
    this.messageGroup = fields.messageGroup;
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

  static {
    leaseOf = (delivery) => [delivery.#leases, delivery.#index];
  }
}

function pairs(flat) {
  const object = {};
  for (let i = 0; i < flat.length; i += 2) {
    // Not by assignment: `__proto__` is a name like any other.
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

// `leaseOf` is for this package: only a delivery that was received has one.
module.exports = { Delivery, leaseOf };
