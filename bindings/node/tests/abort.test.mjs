// A signal aborts only the call that it is passed to.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { getEventListeners } from 'node:events';
import { test } from 'node:test';
import { Client } from 'rocketmq-thin';
import { name, rejection, startProxy } from './proxy.mjs';

const server = await startProxy();
const client = await Client.connect(server);
const topic = name();
const producer = await client.producer({ topics: [topic] });
const consumer = await client.simpleConsumer({ group: name(), subscriptions: [topic] });

test('an aborted call rejects with the reason', async () => {
  const controller = new AbortController();
  const receiving = consumer.receive({ signal: controller.signal });
  const reason = new Error('enough');
  controller.abort(reason);
  assert.equal(await rejection(receiving), reason);
  assert.equal((await rejection(client.producer({}, { signal: controller.signal }))).message, 'enough');
});

test('a call with a signal that is already aborted is not started', async () => {
  const signal = AbortSignal.abort();
  const calls = [
    producer.send({ topic, body: 'never' }, { signal }),
    producer.sendAll([{ topic, body: 'never' }], { signal }),
    consumer.receive({ signal }),
    client.close({ signal }),
    Client.connect({ endpoints: 'localhost' }, { signal }),
  ];
  for (const call of calls) assert.equal((await rejection(call)).name, 'AbortError');
});

test('a timeout signal aborts a call', async () => {
  const error = await rejection(consumer.receive({ signal: AbortSignal.timeout(1) }));
  assert.equal(error.name, 'TimeoutError');
});

test('other calls continue when one is aborted', async () => {
  const controller = new AbortController();
  const aborted = consumer.receive({ signal: controller.signal });
  const kept = consumer.receive();
  controller.abort();
  await rejection(aborted);
  await producer.send({ topic, body: 'x' });
  const [delivery] = await kept;
  await consumer.ack(delivery);
});

test('a call removes its listener from its signal', async () => {
  const { signal } = new AbortController();
  await producer.send({ topic, body: 'x' }, { signal });
  const [delivery] = await consumer.receive({ signal });
  await consumer.ack(delivery, { signal });
  await rejection(producer.send({}, { signal }));
  assert.deepEqual(getEventListeners(signal, 'abort'), []);
});

test('many calls may share a signal', async () => {
  const warned = [];
  process.on('warning', (warning) => warned.push(warning));
  const controller = new AbortController();
  const { signal } = controller;
  const calls = Array.from({ length: 32 }, () => consumer.receive({ signal }));
  await producer.send({ topic, body: 'x' }, { signal });
  controller.abort();
  const settled = await Promise.allSettled(calls);
  // Some calls may have received a message, possibly a message of an earlier test.
  assert.ok(settled.every(({ status, reason }) => status === 'fulfilled' || reason === signal.reason));
  assert.ok(settled.some(({ status }) => status === 'rejected'));
  assert.deepEqual(warned, []);
});

test('aborting ends an endless loop', async () => {
  const controller = new AbortController();
  await producer.send({ topic, body: 'x' });
  const loop = async () => {
    for await (const delivery of consumer.messages({ signal: controller.signal })) {
      await consumer.ack(delivery);
      controller.abort();
    }
  };
  assert.equal((await rejection(loop())).name, 'AbortError');
});

test('a message that arrives before the abort goes to the next receive', async () => {
  const topic = name();
  const consumer = await client.simpleConsumer({ group: name(), subscriptions: topic });
  const controller = new AbortController();
  const receiving = consumer.receive({ signal: controller.signal });
  // `execFileSync` blocks this thread: the message arrives, but the promise is not resolved.
  const program = `
    import { Client } from 'rocketmq-thin';
    const [server, topic] = process.argv.slice(-2);
    const producer = await (await Client.connect(server)).producer();
    await producer.send({ topic, body: 'x' });
  `;
  const options = ['--input-type=module', '--eval', program, '--', server, topic];
  execFileSync(process.execPath, options, { cwd: import.meta.dirname });
  controller.abort();
  assert.equal((await rejection(receiving)).name, 'AbortError');
  const [{ attempt }] = await consumer.receive();
  assert.equal(attempt, 1);
});

test('deliveries that a loop has not reached go to the next receive', async () => {
  const topic = name();
  const consumer = await client.simpleConsumer({ group: name(), subscriptions: topic });
  const messages = [1, 2, 3, 4, 5].map((each) => ({ topic, body: String(each), tag: 't', keys: ['a', 'b'], properties: { n: `${each}` } }));
  await producer.sendAll(messages);
  const received = [];
  while (received.length < messages.length) {
    for await (const delivery of consumer.messages()) {
      await consumer.ack(delivery);
      received.push(delivery);
      break;
    }
  }
  const shown = ({ body, tag, keys, properties, attempt }) => [String(body), tag, keys, { ...properties }, attempt];
  const expected = messages.map(({ body, tag, keys, properties }) => [body, tag, keys, properties, 1]);
  assert.deepEqual(received.map(shown).sort(), expected);
});
