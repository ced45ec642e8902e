'use strict';

// The error of failed operations.

class RocketMQError extends Error {
  #summary;

  constructor(failure) {
    // The outermost cause is the first.
    const cause = failure.causes.reduceRight(
      (inner, message) => (inner ? new Error(message, { cause: inner }) : new Error(message)),
      undefined,
    );
    super(failure.summary, cause && { cause });
    // The first read of the stack creates it, and it begins with the current message, which must be the summary.
    void this.stack;
    // As in every language of this client, `message` contains only the reason.
    this.message = failure.message;
    this.kind = failure.kind;
    this.code = failure.code;
    this.retryable = failure.retryable;
    this.maybeDelivered = failure.maybeDelivered;
    this.operation = failure.operation;
    this.endpoint = failure.endpoint;
    this.requestId = failure.requestId;
    this.#summary = failure.summary;
  }

  toString() {
    return `${this.name}: ${this.#summary}`;
  }
}

// Defined on the prototype, as for JavaScript's own errors, so that it is not a field of each instance.
Object.defineProperty(RocketMQError.prototype, 'name', {
  value: 'RocketMQError',
  configurable: true,
  writable: true,
});

module.exports = { RocketMQError };
