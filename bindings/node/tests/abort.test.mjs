// A signal ends the call that it was given to, and no other.

import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { test } from 'node:test';
import { Client } from 'rocketmq-thin';
import { name, rejection, startProxy } from './proxy.mjs';

const client = await Client.connect({ endpoints: await startProxy() });
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

test('a call with a signal that has aborted is not made', async () => {
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

test('a timeout is a signal', async () => {
  const error = await rejection(consumer.receive({ signal: AbortSignal.timeout(1) }));
  assert.equal(error.name, 'TimeoutError');
});

test('what runs beside an aborted call goes on', async () => {
  const controller = new AbortController();
  const aborted = consumer.receive({ signal: controller.signal });
  const kept = consumer.receive();
  controller.abort();
  await rejection(aborted);
  await producer.send({ topic, body: 'x' });
  const [delivery] = await kept;
  await consumer.ack(delivery);
});

test('a signal that outlives its calls is left without listeners', async () => {
  const { signal } = new AbortController();
  await producer.send({ topic, body: 'x' }, { signal });
  const [delivery] = await consumer.receive({ signal });
  await consumer.ack(delivery, { signal });
  await rejection(producer.send({}, { signal }));
  assert.deepEqual(getEventListeners(signal, 'abort'), []);
});

test('a signal may be shared by many calls at once', async () => {
  const warned = [];
  process.on('warning', (warning) => warned.push(warning));
  const controller = new AbortController();
  const { signal } = controller;
  const calls = Array.from({ length: 32 }, () => consumer.receive({ signal }));
  await producer.send({ topic, body: 'x' }, { signal });
  controller.abort();
  const settled = await Promise.allSettled(calls);
  // Some may have had a message before: those of earlier tests come again as well.
  assert.ok(settled.every(({ status, reason }) => status === 'fulfilled' || reason === signal.reason));
  assert.ok(settled.some(({ status }) => status === 'rejected'));
  assert.deepEqual(warned, []);
});

test('an endless loop ends with its signal', async () => {
  const controller = new AbortController();
  await producer.send({ topic, body: 'x' });
  const loop = async () => {
    for await (const delivery of consumer.deliveries({ signal: controller.signal })) {
      await consumer.ack(delivery);
      controller.abort();
    }
  };
  assert.equal((await rejection(loop())).name, 'AbortError');
});
