'use strict';

// The application's functions that a client calls: handlers, checkers and providers of credentials. What they throw
// is logged and has no other effect.

const { run } = require('./operations.cjs');
const { credentials, isObject, milliseconds, oneOf, record } = require('./arguments.cjs');
const { deliveriesOf, pairs } = require('./delivery.cjs');

// How many messages are fetched at once.
const MAX_TASKS = 64;

const decision = oneOf('commit', 'rollback', 'unknown');
const word = oneOf('ack', 'retry', 'deadLetter');
const retryAfter = record({ retryAfterMs: milliseconds }, { required: ['retryAfterMs'] });
// Fields of objects that are meant as a result. A misspelt one must not acknowledge.
const MEANT_AS_RESULT = /^(retry|(retry_?)?(after|delay)(_?(ms|millis|s|seconds))?|ack|nack|dead_?letter)$/i;
const ACK = ['ack'];
const RETRY = ['retry'];

/** Runs beside the application. */
function start(work, observers) {
  work.catch((error) => observers.log('error', 'the client failed in the background', error));
}

/** Whether a value is written as `{ ... }`, which results are. Objects of classes are what a library returns. */
function isPlain(value) {
  return isObject(value) && [Object.prototype, null].includes(Object.getPrototypeOf(value));
}

/** What a handler's result means: a word, and for `retry` the time. */
function outcome(result) {
  if (typeof result === 'string') return [word(result, 'the result of the handler')];
  if (result instanceof Error) throw result;
  if (isPlain(result) && Object.keys(result).some((name) => MEANT_AS_RESULT.test(name))) {
    return ['retry', retryAfter(result, 'the result of the handler').retryAfterMs];
  }
  // What a function happens to return.
  return ACK;
}

/** Calls the handler of a push consumer for each message, until the consumer is closed. */
async function handleTasks(native, { group, handler }, signal, observers) {
  const handle = async (delivery, tasks, index) => {
    let result;
    try {
      result = outcome(await observers.within(delivery, handler, { signal }));
    } catch (error) {
      observers.log('error', `a handler failed on message ${delivery.messageId}, which is delivered again`, error);
      result = RETRY;
    }
    const [settlement, afterMs] = result;
    observers.handled(group, delivery, settlement);
    tasks.complete(index, settlement, afterMs);
  };
  for (;;) {
    let tasks;
    const received = await observers.receiving(group, async () => {
      // As long as it waits for messages, the process keeps running.
      const list = await run(() => native.nextTasks(MAX_TASKS));
      tasks = list?.pop();
      return list === null ? [] : deliveriesOf(list);
    });
    if (tasks === undefined) return;
    for (let index = 0; index < received.length; index++) {
      start(handle(received[index], tasks, index), observers);
    }
  }
}

/** Asks the checker of a producer about orphaned transactions, until the producer is closed. */
async function answerChecks(checks, checker, observers) {
  const check = async (native) => {
    const question = native.question();
    if (question === null) return;
    const { messageId, transactionId, properties, ...message } = question;
    let decided = 'unknown';
    try {
      const asked = { message: { ...message, properties: pairs(properties) }, messageId, transactionId };
      decided = decision(await checker(asked), 'the result of the checker');
    } catch (error) {
      observers.log('error', `the checker failed on message ${messageId}; the server asks again`, error);
    }
    try {
      await run(() => native.decide(decided));
    } catch (error) {
      observers.log('warn', `the decision about message ${messageId} was not told; the server asks again`, error);
    }
  };
  for (;;) {
    const native = await run(() => checks.next(), undefined, true);
    if (native === null) return;
    start(check(native), observers);
  }
}

/** Calls the provider whenever the client needs credentials, until the client is closed. */
async function provideCredentials(requests, provider, signal, observers) {
  let call = { signal };
  while ((await run(() => requests.next(), undefined, true)) !== null) {
    try {
      requests.provide(credentials(await provider(call), 'the provided credentials'));
    } catch (error) {
      observers.log('error', 'the provider of credentials failed', error);
      requests.refuse(error instanceof Error ? error.message : String(error));
    }
    // The signal is that of the connect.
    call = {};
  }
}

module.exports = { answerChecks, handleTasks, provideCredentials, start };
