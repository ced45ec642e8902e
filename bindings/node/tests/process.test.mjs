// Processes and workers end when no operation is in progress, and not before.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import * as rocketmq from 'rocketmq-thin';
import { name, rejection, run, startProxy } from './proxy.mjs';

const server = await startProxy();

const PRELUDE = `
  import { Client } from 'rocketmq-thin';
  const [endpoints, topic] = process.argv.slice(-2);
  const client = await Client.connect({ endpoints });
  const producer = await client.producer({ topics: [topic] });
  const consumer = await client.simpleConsumer({ group: topic, subscriptions: [topic] });
`;

test('an idle process ends without a close', async () => {
  const program = `${PRELUDE} await producer.send({ topic, body: 'x' }); console.log('sent');`;
  assert.deepEqual(await run(program, server, name()), { code: 0, output: 'sent\n' });
});

test('a process that waits for a response keeps running', async () => {
  const program = `${PRELUDE}
    const received = consumer.receive().then(([{ body }]) => console.log(String(body)));
    await producer.send({ topic, body: 'worth waiting for' });
  `;
  assert.deepEqual(await run(program, server, name()), { code: 0, output: 'worth waiting for\n' });
});

test('a process ends when its only call is aborted', async () => {
  const program = `${PRELUDE}
    const controller = new AbortController();
    consumer.receive({ signal: controller.signal }).catch((error) => console.log(error.name));
    controller.abort();
  `;
  assert.deepEqual(await run(program, server, name()), { code: 0, output: 'AbortError\n' });
});

test('a process ends when it cannot connect', async () => {
  const program = `
    import { Client } from 'rocketmq-thin';
    const connecting = Client.connect({ endpoints: '127.0.0.1:1', startupTimeoutMs: 100 });
    connecting.catch(({ name }) => console.log(name));
  `;
  assert.deepEqual(await run(program), { code: 0, output: 'RocketMQError\n' });
});

test('require and import return the same classes', () => {
  const required = createRequire(import.meta.url)('rocketmq-thin');
  assert.deepEqual(Object.keys(required).sort(), Object.keys(rocketmq).sort());
  for (const [key, value] of Object.entries(required)) assert.equal(rocketmq[key], value);
});

test('await using closes the client', async () => {
  const client = await rocketmq.Client.connect({ endpoints: server });
  const producer = await client.producer();
  // `await using client = ...` calls this at the end of the block.
  await client[Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose')]();
  assert.equal((await rejection(producer.send({ topic: name(), body: 'x' }))).kind, 'Closed');
});

test('each worker has its own client, and may be terminated during a call', async () => {
  const topic = name();
  const program = `
    const { parentPort, workerData } = require('node:worker_threads');
    const { Client } = require(workerData.package);
    (async () => {
      const client = await Client.connect({ endpoints: workerData.server });
      const producer = await client.producer();
      await producer.send({ topic: workerData.topic, body: 'from a worker' });
      const consumer = await client.simpleConsumer({ group: 'nobody', subscriptions: [workerData.topic + '-empty'] });
      consumer.receive();
      parentPort.postMessage('waiting');
    })();
  `;
  const workerData = { server, topic, package: createRequire(import.meta.url).resolve('rocketmq-thin') };
  const workers = [1, 2].map(() => new Worker(program, { eval: true, workerData }));
  await Promise.all(workers.map((worker) => new Promise((resolve) => worker.once('message', resolve))));
  await Promise.all(workers.map((worker) => worker.terminate()));

  const client = await rocketmq.Client.connect({ endpoints: server });
  const consumer = await client.simpleConsumer({ group: name(), subscriptions: [topic] });
  let received = 0;
  while (received < workers.length) received += (await consumer.receive()).length;
  await client.close();
});

test('a worker that ends during a receive takes no message', async () => {
  const topic = name();
  const program = `
    const { parentPort, workerData } = require('node:worker_threads');
    const { Client } = require(workerData.package);
    (async () => {
      const client = await Client.connect(workerData.server);
      const consumer = await client.simpleConsumer({ group: workerData.topic, subscriptions: workerData.topic });
      const producer = await client.producer();
      // After a first message, the client's poll of the server has begun.
      await producer.send({ topic: workerData.topic, body: 'first' });
      await consumer.ack((await consumer.receive())[0]);
      consumer.receive();
      parentPort.postMessage('waiting');
    })();
  `;
  const workerData = { server, topic, package: createRequire(import.meta.url).resolve('rocketmq-thin') };
  const worker = new Worker(program, { eval: true, workerData });
  await once(worker, 'message');
  await worker.terminate();

  const client = await rocketmq.Client.connect(server);
  const producer = await client.producer();
  const consumer = await client.simpleConsumer({ group: topic, subscriptions: topic });
  await producer.send({ topic, body: 'second' });
  const [delivery] = await consumer.receive();
  assert.deepEqual([String(delivery.body), delivery.attempt], ['second', 1]);
  await client.close();
});

/** Starts a worker that runs the body of an async function, and ends it when the program posts a message. */
async function endDuring(program, topic) {
  const prelude = `
    const { dirname, join } = require('node:path');
    const { parentPort, workerData: { server, topic, package } } = require('node:worker_threads');
    const { Client } = require(package);
    const native = require(join(dirname(package), 'native.cjs'));
    // Tells that the time has come, and blocks this thread.
    const block = () => {
      parentPort.postMessage('blocked');
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    };
  `;
  const workerData = { server, topic, package: createRequire(import.meta.url).resolve('rocketmq-thin') };
  const worker = new Worker(`${prelude} (async () => { ${program} })();`, { eval: true, workerData });
  await once(worker, 'message');
  await worker.terminate();
}

/** Returns at which attempts of a group messages are received next. The topic is also the group. */
async function nextAttempts(topic, count) {
  const client = await rocketmq.Client.connect(server);
  const consumer = await client.simpleConsumer({ group: topic, subscriptions: topic });
  const attempts = [];
  for await (const delivery of consumer.messages()) {
    await consumer.ack(delivery);
    attempts.push(delivery.attempt);
    if (attempts.length === count) break;
  }
  await client.close();
  return attempts;
}

test('a message that has arrived in a worker is given back when the worker ends', async () => {
  const topic = name();
  const program = `
    const client = await Client.connect(server);
    const consumer = await client.simpleConsumer({ group: topic, subscriptions: topic });
    const other = await Client.connect(server);
    await (await other.producer()).send({ topic, body: 'x' });
    // The worker ends before it fetches the message.
    native.Completions.prototype.drain = block;
    await consumer.receive();
  `;
  await endDuring(program, topic);
  assert.deepEqual(await nextAttempts(topic, 1), [1]);
});

test('messages whose handlers have not begun when their worker ends do not count as failed', async () => {
  const topic = name();
  const program = `
    const afterReceive = (_, { value }) => value?.length > 0 && block();
    const client = await Client.connect({ endpoints: server, interceptors: [{ afterReceive }] });
    await client.pushConsumer({ group: topic, subscriptions: topic, handler: () => {} });
    const producer = await client.producer();
    await producer.sendAll([1, 2, 3].map((number) => ({ topic, body: String(number) })));
  `;
  await endDuring(program, topic);
  assert.deepEqual(await nextAttempts(topic, 3), [1, 1, 1]);
});

test('a message whose handler has begun when its worker ends counts as failed', async () => {
  const topic = name();
  const program = `
    const client = await Client.connect(server);
    await client.pushConsumer({ group: topic, subscriptions: topic, handler: block });
    await (await client.producer()).send({ topic, body: 'x' });
  `;
  await endDuring(program, topic);
  assert.deepEqual(await nextAttempts(topic, 1), [2]);
});
