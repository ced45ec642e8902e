'use strict';

// Calls the application's handlers, checkers and credentials providers in the background. Their exceptions are logged,
// and not thrown.

const { setTimeout } = require('node:timers/promises');

const { run } = require('./operations.cjs');
const { credentials, isObject, milliseconds, oneOf, record, refuse } = require('./arguments.cjs');
const { deliveriesOf, fromPairs } = require('./delivery.cjs');
const { RocketMQError } = require('./error.cjs');

// The maximum number of messages that are fetched at once.
const MAX_TASKS = 64;

// The delays between fetches that fail. Each is twice as long as the last one, up to a limit.
const SHORTEST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 1000;

const decision = oneOf('commit', 'rollback', 'unknown');
const resultName = oneOf('ack', 'retry', 'deadLetter');
const retryAfter = record({ retryAfterMs: milliseconds }, { required: ['retryAfterMs'] });
const ACK = ['ack'];
const RETRY = ['retry'];

/** Logs the failure of a promise that nobody awaits. */
function start(work, observers) {
  work.catch((error) => observers.log('error', 'a background task of the client failed', error));
}

/** Returns the text of anything that was thrown. Some values have none: their conversion throws. */
function toText(thrown) {
  try {
    return String(thrown instanceof Error ? thrown.message : thrown);
  } catch {
    return 'a value without a text was thrown';
  }
}

/** Whether a value is a plain object, as results are. Objects of classes are values that a library happens to return. */
function isPlain(value) {
  return isObject(value) && [Object.prototype, null].includes(Object.getPrototypeOf(value));
}

/**
 * Converts a handler's result to a settlement and, for `retry`, the delay. Throws for any other value, such as a function
 * that was not called: only a known result may acknowledge the message.
 */
function toSettlement(result) {
  const path = 'the result of the handler';
  if (result === undefined || result === null) return ACK;
  if (typeof result === 'string') return [resultName(result, path)];
  if (result instanceof Error) throw result;
  if (isPlain(result)) return ['retry', retryAfter(result, path).retryAfterMs];
  return refuse(result, path, "undefined, 'ack', 'retry', 'deadLetter' or { retryAfterMs }");
}

/** Calls the handler of a push consumer for each message, until the consumer is closed. */
async function handleTasks(native, options, signal, observers) {
  try {
    await handleUntilClosed(native, options, signal, observers);
  } catch (error) {
    // Otherwise the consumer would receive messages that nobody handles.
    observers.log('error', `the push consumer of group ${options.group} is closed, because it cannot fetch messages`, error);
    await run(() => native.close(undefined), undefined, true);
  }
}

async function handleUntilClosed(native, { group, handler }, signal, observers) {
  const handle = async (delivery, tasks, index) => {
    let result;
    tasks.begin();
    try {
      result = toSettlement(await observers.within(delivery, handler, { signal }));
    } catch (error) {
      observers.log('error', `a handler failed on message ${delivery.messageId}, which is delivered again`, error);
      result = RETRY;
    }
    const [settlement, afterMs] = result;
    if (!observers.intercepting) return tasks.complete(index, settlement, afterMs);
    const settle = () => run(() => tasks.settle(index, settlement, afterMs));
    // The client logs a failure.
    await observers.settling(group, delivery, settlement, settle).catch(() => {});
  };
  let pauseMs = SHORTEST_PAUSE_MS;
  for (;;) {
    let tasks;
    try {
      const received = await observers.receiving(group, async () => {
        // The process keeps running while the consumer waits for messages.
        const list = await run(() => native.nextTasks(MAX_TASKS));
        tasks = list?.pop();
        return list === null ? [] : deliveriesOf(list);
      });
      if (tasks === undefined) return;
      received.forEach((delivery, index) => start(handle(delivery, tasks, index), observers));
      pauseMs = SHORTEST_PAUSE_MS;
    } catch (error) {
      if (error instanceof RocketMQError) throw error;
      // Without memory, for example. If this function ended, the consumer would be closed.
      observers.log('error', 'failed to hand out messages, which are delivered again', error);
      tasks?.putBack();
      await setTimeout(pauseMs);
      pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS);
    }
  }
}

/** Answers a producer's orphan checks with the results of its checker, until the producer is closed. */
async function answerChecks(checks, checker, observers) {
  const check = async (native) => {
    const orphaned = native.message();
    if (orphaned === null) return;
    const { messageId, transactionId, properties, ...message } = orphaned;
    let decided = 'unknown';
    try {
      const orphanCheck = { message: { ...message, properties: fromPairs(properties) }, messageId, transactionId };
      decided = decision(await checker(orphanCheck), 'the result of the checker');
    } catch (error) {
      observers.log('error', `the checker failed on message ${messageId}; the server asks again`, error);
    }
    try {
      await run(() => native.decide(decided));
    } catch (error) {
      observers.log('warn', `failed to send the decision about message ${messageId}; the server asks again`, error);
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
      observers.log('error', 'the credentials provider failed', error);
      requests.refuse(toText(error));
    }
    // Only the call during the connect gets the signal of the connect.
    call = {};
  }
}

module.exports = { answerChecks, handleTasks, provideCredentials, start };
