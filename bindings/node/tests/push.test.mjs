// Push consumers, and features beyond simple sends and receives: transactions, credentials, logs, metrics.

import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { test } from 'node:test';

import { Client, RocketMQError } from 'rocketmq-thin';

import { collectGarbage, name, rejection, run, startProxy } from './proxy.mjs';

const server = await startProxy();
const logged = [];
const log = (level) => (message, ...details) => logged.push([level, message, ...details]);
const client = await Client.connect({ endpoints: server, logger: { error: log('error'), warn: log('warn') } });
const producer = await client.producer();

/** Creates a push consumer of a new topic. `until` waits until its handler was called a number of times. */
async function startConsumer(handler, options = {}) {
  const [topic, group] = [name(), name()];
  const events = new EventEmitter();
  const handled = [];
  const consumer = await client.pushConsumer({
    group,
    subscriptions: topic,
    handler: async (delivery, call) => {
      handled.push(`${delivery.body} ${delivery.attempt}`);
      events.emit('handled');
      return await handler(delivery, call);
    },
    ...options,
  });
  const until = async (count) => {
    while (handled.length < count) await once(events, 'handled');
    return handled.sort();
  };
  return { topic, group, consumer, handled, until };
}

test('a handler can acknowledge, retry and move a message to the dead letters', async () => {
  const { topic, consumer, until } = await startConsumer(({ body, attempt }) => {
    if (attempt === 1 && String(body) === 'retry') return { retryAfterMs: 0 };
    if (attempt === 1 && String(body) === 'throw') throw new Error('once');
    return String(body) === 'dead' ? 'deadLetter' : undefined;
  });
  await producer.sendAll(['ack', 'retry', 'throw', 'dead'].map((body) => ({ topic, body })));
  assert.deepEqual(await until(6), ['ack 1', 'dead 1', 'retry 1', 'retry 2', 'throw 1', 'throw 2']);
  assert.ok(logged.some(([level, message]) => level === 'error' && message.startsWith('a handler failed on message')));
  await consumer.close();
});

test('an unknown result does not acknowledge', async () => {
  const mistakes = {
    word: ['Retry', TypeError, /^the result of the handler must be 'ack' or 'retry' or 'deadLetter', not the string "Retry"$/],
    field: [{ retryAfter: 1 }, TypeError, /^the result of the handler has no field retryAfter; it takes retryAfterMs$/],
    settlement: [{ deadLetter: true }, TypeError, /has no field deadLetter/],
    time: [{ retryAfterMs: '1' }, TypeError, /retryAfterMs must be a number of milliseconds/],
    error: [new RangeError('returned'), RangeError, /^returned$/],
    response: [{ acknowledged: true }, TypeError, /has no field acknowledged/],
    boolean: [false, TypeError, /must be undefined, 'ack', 'retry', 'deadLetter' or \{ retryAfterMs \}, not the boolean false$/],
    // A function that was not called, and a generator that was not iterated: neither has run.
    uncalled: [async () => {}, TypeError, /not a function$/],
    unlooped: [(async function* () {})(), TypeError, /not an object of class/],
  };
  const { topic, consumer, until } = await startConsumer(({ body, attempt }) => {
    return attempt === 1 && body in mistakes ? mistakes[body][0] : undefined;
  });
  const bodies = ['ack', ...Object.keys(mistakes)];
  await producer.sendAll(bodies.map((body) => ({ topic, body })));
  const expected = ['ack 1', ...Object.keys(mistakes).flatMap((body) => [`${body} 1`, `${body} 2`])];
  assert.deepEqual(await until(expected.length), expected.sort());
  for (const [, kind, text] of Object.values(mistakes)) {
    assert.ok(logged.some(([, , error]) => error?.constructor === kind && text.test(error.message)), String(text));
  }
  await consumer.close();
});

test('a close aborts the signal of handlers that run too long', async () => {
  const { topic, consumer, until } = await startConsumer((_, { signal }) => once(signal, 'abort'));
  await producer.send({ topic, body: 'x' });
  await until(1);
  assert.equal((await consumer.close({ deadlineMs: 0 })).abandoned, 1);
});

test('closing the client aborts the signal of its handlers, too', async () => {
  const topic = name();
  const other = await Client.connect(server);
  const events = new EventEmitter();
  const [began, aborted] = [once(events, 'began'), once(events, 'aborted')];
  const handler = async (_, { signal }) => {
    events.emit('began');
    await once(signal, 'abort');
    events.emit('aborted');
  };
  await other.pushConsumer({ group: name(), subscriptions: topic, handler });
  await producer.send({ topic, body: 'x' });
  await began;
  assert.equal((await other.close({ deadlineMs: 0 })).abandoned, 1);
  await aborted;
});

test('a paused consumer handles no messages until it is resumed', async () => {
  const { topic, consumer, handled, until } = await startConsumer(() => {});
  const other = await client.simpleConsumer({ group: name(), subscriptions: topic });
  consumer.pause();
  assert.equal(consumer.isPaused, true);
  for (let i = 0; i < 10; i++) {
    // Another group receives each message. A consumer that is not paused would handle one of them meanwhile.
    await producer.send({ topic, body: `${i}` });
    await other.ack((await other.receive())[0]);
  }
  assert.deepEqual(handled, []);
  consumer.resume();
  assert.equal(consumer.isPaused, false);
  assert.deepEqual(await until(10), Array.from({ length: 10 }, (_, i) => `${i} 1`));
  await consumer.close();
});

test('the subscriptions of a push consumer can be changed', async () => {
  const { topic, consumer, until } = await startConsumer(() => {});
  const other = name();
  await consumer.subscribe({ topic: other, tags: ['a'] });
  await consumer.unsubscribe(topic);
  assert.deepEqual(consumer.subscriptions(), [{ topic: other, tags: ['a'] }]);
  await producer.send({ topic: other, body: 'x', tag: 'a' });
  assert.deepEqual(await until(1), ['x 1']);
  await consumer.unsubscribe(other);
  assert.deepEqual(consumer.subscriptions(), []);
  await assert.rejects(consumer.subscribe({ topic: other, tag: 'a' }), TypeError);
  await consumer.close();
});

test('deliveries can be returned, kept invisible and moved to the dead letters', async () => {
  const [topic, group] = [name(), name()];
  const consumer = await client.simpleConsumer({ group, subscriptions: topic });
  await producer.send({ topic, body: 'x' });
  const [first] = await consumer.receive();
  consumer.keepLease(first, 3_600_000);
  await consumer.nack(first, 0);
  const [second] = await consumer.receive();
  assert.deepEqual([second.attempt, second.isLeaseLost], [2, false]);
  await consumer.deadLetter(second);
  assert.throws(() => consumer.keepLease(second, 3_600_000), { kind: 'InvalidReceipt' });
  await consumer.subscribe(`%DLQ%${group}`);
  await consumer.unsubscribe(topic);
  const [letter] = await consumer.receive();
  assert.deepEqual([String(letter.body), letter.deadLetterOrigin.topic], ['x', topic]);
  await consumer.ack(letter);
  await consumer.close();
});

test('the subscriptions of a consumer are returned', async () => {
  const [plain, tagged, matched] = [name(), name(), name()];
  const subscriptions = [plain, { topic: tagged, tags: ['a', 'b'] }];
  const consumer = await client.simpleConsumer({ group: name(), subscriptions });
  await consumer.subscribe({ topic: matched, sql: 'a = 1' });
  const expected = [{ topic: plain }, { topic: tagged, tags: ['a', 'b'] }, { topic: matched, sql: 'a = 1' }];
  const byTopic = (one, other) => one.topic.localeCompare(other.topic);
  assert.deepEqual(consumer.subscriptions().sort(byTopic), expected.sort(byTopic));
  await consumer.close();
});

test('a message has one type', async () => {
  const topic = name();
  for (const given of [{ delayMs: 1, priority: 1 }, { messageGroup: 'g', deliverAt: new Date() }]) {
    const error = await rejection(producer.send({ topic, body: 'x', ...given }));
    assert.ok(error instanceof RocketMQError);
    assert.equal(error.kind, 'InvalidArgument');
  }
  await assert.rejects(producer.send({ topic, body: 'x', deliverAt: 'soon' }), TypeError);
});

test('an operation that the topic does not support fails with an error that says so', async () => {
  const topic = name();
  const transaction = producer.begin();
  const error = await rejection(transaction.send({ topic, body: 'x' }));
  assert.ok(['Unsupported', 'TypeMismatch'].includes(error.kind), String(error));
  await transaction.rollback();
});

test('a provider provides credentials, and status changes are reported', async () => {
  let calls = 0;
  const credentials = async () => {
    calls += 1;
    return { accessKey: 'key', secretKey: 'secret' };
  };
  const other = await Client.connect({ endpoints: server, credentials });
  assert.deepEqual([calls, other.health().status], [1, 'connected']);
  const statuses = [];
  const watching = (async () => {
    for await (const { status } of other.statusChanges()) statuses.push(status);
  })();
  await other.close();
  await watching;
  assert.deepEqual(statuses.at(-1), 'closed');
});

test('a provider that fails or hangs fails the connect', async () => {
  const failing = () => {
    throw new Error('the vault is sealed');
  };
  for (const [credentials, kind, message, startupTimeoutMs] of [
    [failing, 'Unauthenticated', 'no credentials: the credentials provider failed: the vault is sealed'],
    [() => ({ accessKey: 'key' }), 'Unauthenticated', /the provided credentials\.secretKey must be a string/],
    [() => new Promise(() => {}), 'Timeout', 'the credentials provider did not answer in time', 200],
  ]) {
    const error = await rejection(Client.connect({ endpoints: server, credentials, startupTimeoutMs }));
    assert.equal(error.kind, kind);
    assert.match(error.message, new RegExp(message));
  }
  const connecting = Client.connect({ endpoints: server, credentials: ({ signal }) => once(signal, 'abort') }, { signal: AbortSignal.timeout(50) });
  assert.equal((await rejection(connecting)).name, 'TimeoutError');
});

test('a logger gets the log records of the core', async () => {
  let seen;
  const warned = new Promise((resolve) => (seen = resolve));
  const logger = { warn: (message, fields) => message.startsWith('the server') && seen([message, fields]) };
  const tls = { dangerouslySkipVerification: true };
  const other = await Client.connect({ endpoints: `https://${server}`, tls, logger });
  assert.deepEqual(await warned, ["the server's certificate is not verified", { endpoint: server }]);
  await other.close();
});

test('metrics count sends', async () => {
  const topic = name();
  const other = await Client.connect(server);
  const sender = await other.producer();
  for (let i = 0; i < 3; i++) await sender.send({ topic, body: 'x' });
  const metrics = other.metrics();
  const [{ labels, value }] = metrics.find((metric) => metric.name === 'rocketmq_send_cost_time').points;
  assert.deepEqual([labels.topic, labels.invocation_status], [topic, 'success']);
  assert.deepEqual([value.counts.reduce((one, more) => one + more), value.counts.length], [3, value.bounds.length + 1]);
  const { unit, points } = metrics.find((metric) => metric.name === 'rocketmq_client_connections');
  assert.deepEqual([unit, typeof points[0].value], ['{connection}', 'number']);
  await other.close();
});

test('the startup option decides whether connecting fails at once', async () => {
  const error = await rejection(Client.connect('127.0.0.1:1'));
  assert.match(error.message, /nothing listens/);
  const lazy = await Client.connect({ endpoints: '127.0.0.1:1', startup: 'lazy' });
  assert.equal(lazy.health().status, 'connecting');
  await lazy.close();
  await assert.rejects(Client.connect({ endpoints: server, startup: 'later' }), TypeError);
  const skipping = await Client.connect({ endpoints: `https://${server}`, tls: { dangerouslySkipVerification: true } });
  assert.equal(skipping.health().status, 'connected');
  await skipping.close();
});

test('interceptors see sends, and may add properties', async () => {
  const seen = [];
  const interceptor = {
    beforeSend: (message) => Object.assign(message.properties, { added: '1' }),
    afterSend: (_, { status }) => seen.push(status),
    beforeReceive: () => {
      throw new Error('has no effect');
    },
  };
  const topic = name();
  const other = await Client.connect({ endpoints: server, interceptors: [interceptor] });
  await (await other.producer()).send({ topic, body: 'x' });
  const [delivery] = await (await other.simpleConsumer({ group: name(), subscriptions: topic })).receive();
  assert.deepEqual([seen, { ...delivery.properties }], [['fulfilled'], { added: '1' }]);
  await other.close();
});

test('messages that cannot be handed out are handled later, and their attempts do not count', async () => {
  const { topic, consumer, until } = await startConsumer(() => {});
  const { Date } = globalThis;
  // Creating the first delivery fails.
  globalThis.Date = class {
    constructor() {
      globalThis.Date = Date;
      throw new RangeError('Array buffer allocation failed');
    }
  };
  await producer.send({ topic, body: 'x' });
  assert.deepEqual(await until(1), ['x 1']);
  const [level, , error] = logged.find(([, message]) => message === 'failed to hand out messages, which are delivered again');
  assert.equal(level, 'error');
  assert.match(error.message, /allocation failed/);
  await consumer.close();
});

test('a consumer that cannot fetch messages is closed, and says so', async (context) => {
  const library = dirname(createRequire(import.meta.url).resolve('rocketmq-thin'));
  const native = createRequire(import.meta.url)(join(library, 'native.cjs'));
  const failure = new RocketMQError({ kind: 'Internal', summary: 'it failed', causes: [] });
  const closes = new EventEmitter();
  const closed = once(closes, 'close');
  const { close } = native.PushConsumer.prototype;
  context.mock.method(native.PushConsumer.prototype, 'nextTasks', () => {
    throw failure;
  });
  context.mock.method(native.PushConsumer.prototype, 'close', function (...args) {
    closes.emit('close');
    return close.apply(this, args);
  });
  const { group } = await startConsumer(() => {});
  await closed;
  const text = `the push consumer of group ${group} is closed, because it cannot fetch messages`;
  assert.deepEqual(logged.filter(([, message]) => message === text), [['error', text, failure]]);
});

test('a client forgets a consumer whose close is not waited for', async () => {
  const openAndClose = async () => {
    let handlerSignal;
    const { topic, consumer, until } = await startConsumer(async (_, { signal }) => {
      handlerSignal = signal;
      await once(signal, 'abort');
    });
    await producer.send({ topic, body: 'x' });
    await until(1);
    const controller = new AbortController();
    const closed = once(handlerSignal, 'abort');
    const closing = consumer.close({ deadlineMs: 0, signal: controller.signal });
    controller.abort();
    assert.equal((await rejection(closing)).name, 'AbortError');
    await closed;
    return new WeakRef(handlerSignal);
  };
  const handlerSignal = await openAndClose();
  await collectGarbage();
  assert.equal(handlerSignal.deref(), undefined);
});

test('a process ends when its push consumer is closed', async () => {
  const program = `
    import { Client } from 'rocketmq-thin';
    const [server, topic] = process.argv.slice(-2);
    const client = await Client.connect(server);
    const consumer = await client.pushConsumer({
      group: topic,
      subscriptions: topic,
      handler: ({ body }) => {
        console.log(String(body));
        setImmediate(() => consumer.close());
      },
    });
    await (await client.producer()).send({ topic, body: 'x' });
  `;
  assert.deepEqual(await run(program, server, name()), { code: 0, output: 'x\n' });
});

test('the client is closed', async () => {
  await client.close();
});
