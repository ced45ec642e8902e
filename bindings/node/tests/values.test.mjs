// What crosses the border between JavaScript and Rust arrives as it was.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Client, Delivery, RocketMQError } from 'rocketmq-thin';
import { name, rejection, startProxy } from './proxy.mjs';

const client = await Client.connect({ endpoints: await startProxy() });

async function pair() {
  const topic = name();
  const producer = await client.producer({ topics: [topic] });
  const consumer = await client.simpleConsumer({ group: name(), subscriptions: [topic] });
  return { topic, producer, consumer };
}

async function receive(consumer, count) {
  const deliveries = [];
  while (deliveries.length < count) deliveries.push(...(await consumer.receive()));
  return deliveries;
}

test('a delivery is what was sent', async () => {
  const { topic, producer, consumer } = await pair();
  const properties = JSON.parse('{"region":"eu","__proto__":"a name like any other"}');
  const body = Buffer.from([0, 1, 254, 255]);
  const receipt = await producer.send({ topic, body, tag: 'new', keys: ['1', '2'], properties });
  assert.equal(receipt.topic, topic);

  const [delivery] = await receive(consumer, 1);
  assert.ok(delivery instanceof Delivery);
  assert.ok(Buffer.isBuffer(delivery.body));
  assert.deepEqual(delivery.body, body);
  assert.equal(delivery.messageId, receipt.messageId);
  assert.equal(delivery.topic, topic);
  assert.equal(delivery.tag, 'new');
  assert.deepEqual(delivery.keys, ['1', '2']);
  assert.deepEqual(Object.entries(delivery.properties).sort(), Object.entries(properties).sort());
  assert.equal(delivery.attempt, 1);
  assert.equal(delivery.corrupted, false);
  assert.ok(delivery.bornAt instanceof Date && delivery.storedAt instanceof Date);
  assert.ok(Math.abs(delivery.storedAt - Date.now()) < 3_600_000);
  assert.equal(await consumer.ack(delivery), undefined);
});

test('what a message leaves out stays out', async () => {
  const { topic, producer, consumer } = await pair();
  await producer.send({ topic, body: 'x', tag: undefined, keys: undefined });
  const [delivery] = await receive(consumer, 1);
  assert.equal(delivery.tag, undefined);
  assert.deepEqual(delivery.keys, []);
  assert.deepEqual(delivery.properties, {});
});

test('a body is text, bytes, or a part of a larger array, and may be reused at once', async () => {
  const { topic, producer, consumer } = await pair();
  const array = new Uint8Array([9, 1, 2, 9]);
  const sent = [
    producer.send({ topic, body: 'grüße', keys: ['text'] }),
    producer.send({ topic, body: array.subarray(1, 3), keys: ['part'] }),
    producer.send({ topic, body: Buffer.alloc(300_000, 7), keys: ['large'] }),
  ];
  array.fill(0);
  await Promise.all(sent);

  const deliveries = await receive(consumer, sent.length);
  const bodies = Object.fromEntries(deliveries.map(({ keys: [key], body }) => [key, body]));
  assert.equal(bodies.text.toString(), 'grüße');
  assert.deepEqual([...bodies.part], [1, 2]);
  assert.deepEqual(bodies.large, Buffer.alloc(300_000, 7));
});

test('many at once have a result each, in order', async () => {
  const { topic, producer, consumer } = await pair();
  const messages = [{ topic, body: '1' }, { topic: '', body: '2' }, { topic, body: '3' }];
  const results = await producer.sendAll(new Set(messages));
  assert.deepEqual(results.map(({ status }) => status), ['fulfilled', 'rejected', 'fulfilled']);
  assert.ok(results[1].reason instanceof RocketMQError);

  const deliveries = await receive(consumer, 2);
  const ids = [results[0], results[2]].map(({ value }) => value.messageId);
  assert.deepEqual(deliveries.map(({ messageId }) => messageId).sort(), ids.sort());
  const acked = await consumer.ackAll(deliveries);
  assert.deepEqual(acked, Array(2).fill({ status: 'fulfilled', value: undefined }));
});

test('deliveries come one by one until the loop is left', async () => {
  const { topic, producer, consumer } = await pair();
  await producer.sendAll([1, 2, 3].map((body) => ({ topic, body: String(body) })));
  const bodies = [];
  for await (const delivery of consumer.deliveries({ maxMessages: 1 })) {
    await consumer.ack(delivery);
    bodies.push(delivery.body.toString());
    if (bodies.length === 3) break;
  }
  assert.deepEqual(bodies.sort(), ['1', '2', '3']);
});

test('a delivery given back comes again', async () => {
  const { topic, producer, consumer } = await pair();
  await producer.send({ topic, body: 'x' });
  const [first] = await receive(consumer, 1);
  await consumer.changeInvisible(first, 0);
  const [second] = await receive(consumer, 1);
  assert.deepEqual([second.messageId, second.attempt], [first.messageId, 2]);
});

test('an error says what, where, and who waited for it', async () => {
  const { topic, producer } = await pair();
  await producer.close();
  async function checkOut() {
    await producer.send({ topic, body: 'x' });
  }
  const error = await rejection(checkOut());
  assert.ok(error instanceof RocketMQError && error instanceof Error);
  assert.equal(error.name, 'RocketMQError');
  assert.equal(error.kind, 'Closed');
  assert.equal(error.operation, 'send');
  assert.equal(error.code, undefined);
  assert.equal(error.retryable, false);
  assert.equal(error.maybeDelivered, false);
  assert.match(error.stack, /checkOut/);
});

test('what cannot be converted rejects the call and nothing else', async () => {
  const { topic, producer, consumer } = await pair();
  const wrong = [
    () => producer.send({ topic }),
    () => producer.send({ topic, body: 7 }),
    () => producer.send(undefined),
    () => consumer.ack({ messageId: '1' }),
    () => consumer.receive({ maxMessage: 1 }),
    () => consumer.receive({ awaitMs: -1 }),
    () => client.simpleConsumer({ group: 'g', subscriptions: [{ topic, tags: ['a'], sql: 'a = 1' }] }),
    () => Client.connect({ endpoint: 'misspelt' }),
  ];
  for (const call of wrong) {
    const error = await rejection(call());
    assert.ok(!(error instanceof RocketMQError), `${call}: ${error}`);
  }
  await producer.send({ topic, body: 'still working' });
});

test('closing says what became of what was under way', async () => {
  const { topic, producer } = await pair();
  await producer.send({ topic, body: 'x' });
  const { flushed, abandoned, elapsedMs } = await producer.close({ deadlineMs: 5_000 });
  assert.deepEqual([flushed, abandoned], [0, 0]);
  assert.ok(elapsedMs >= 0);
});
