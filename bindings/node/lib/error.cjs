'use strict';

class RocketMQError extends Error {
  #summary;

  constructor(failure) {
    // Each cause is the reason of the one before it.
    const cause = failure.causes.reduceRight(
      (inner, message) => (inner ? new Error(message, { cause: inner }) : new Error(message)),
      undefined,
    );
    super(failure.summary, cause && { cause });
    // The stack is made when it is first read, and begins with the message: with the summary, if it is read now.
    void this.stack;
    // As in every language, `message` is only the reason.
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

// On the prototype, as with the errors of the language, so that it is no field of each instance.
Object.defineProperty(RocketMQError.prototype, 'name', {
  value: 'RocketMQError',
  configurable: true,
  writable: true,
});

module.exports = { RocketMQError };
