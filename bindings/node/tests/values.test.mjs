// Conversion of values between JavaScript and Rust, in both directions.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inspect } from 'node:util';
import { Client, Delivery, RocketMQError } from 'rocketmq-thin';
import { collectGarbage, name, rejection, startProxy } from './proxy.mjs';

const server = await startProxy();
const client = await Client.connect({ endpoints: server });

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

test('a delivery has the fields of the message', async () => {
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

test('fields that a message leaves out are empty in the delivery', async () => {
  const { topic, producer, consumer } = await pair();
  await producer.send({ topic, body: 'x', tag: undefined, keys: undefined });
  const [delivery] = await receive(consumer, 1);
  assert.equal(delivery.tag, undefined);
  assert.deepEqual(delivery.keys, []);
  assert.deepEqual(delivery.properties, {});
});

test('a body is text, bytes or a part of an array, which may be reused at once', async () => {
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

test('batches have a result for each item, in order', async () => {
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

test('deliveries are yielded one by one until the loop is left', async () => {
  const { topic, producer, consumer } = await pair();
  await producer.sendAll([1, 2, 3].map((body) => ({ topic, body: String(body) })));
  const bodies = [];
  for await (const delivery of consumer.messages({ maxMessages: 1 })) {
    await consumer.ack(delivery);
    bodies.push(delivery.body.toString());
    if (bodies.length === 3) break;
  }
  assert.deepEqual(bodies.sort(), ['1', '2', '3']);
});

test('a delivery whose invisible time is set to 0 is delivered again', async () => {
  const { topic, producer, consumer } = await pair();
  await producer.send({ topic, body: 'x' });
  const [first] = await receive(consumer, 1);
  await consumer.changeInvisible(first, 0);
  const [second] = await receive(consumer, 1);
  assert.deepEqual([second.messageId, second.attempt], [first.messageId, 2]);
});

test('an error has all fields, and its stack contains the caller', async () => {
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
  assert.match(error.stack, /^RocketMQError: send failed: .* \(Closed\)\n[^]*checkOut/);
  assert.match(String(error), /^RocketMQError: send failed: .* \(Closed\)$/);
  assert.doesNotMatch(error.message, /send failed/);
});

test('the error of an argument of the wrong type names the argument', async () => {
  const { topic, producer, consumer } = await pair();
  const body = 'x';
  const signal = {};
  const wrong = [
    [() => producer.send(undefined), /^message must be an object with topic, body, .*, not undefined$/],
    [() => producer.send({ topic }), /^message\.body must be a string or a Uint8Array, not undefined$/],
    [() => producer.send({ topic, body: 7 }), /^message\.body must be a string or a Uint8Array, not the number 7$/],
    [() => producer.send({ topic: null, body }), /^message\.topic must be a string, not null$/],
    [() => producer.send({ topic, body, tags: 'a' }), /^message has no field tags; it takes topic, body, tag, /],
    [() => producer.send({ topic, body, keys: [1] }), /^message\.keys\[0\] must be a string, not the number 1$/],
    [() => producer.send({ topic, body, keys: 1 }), /^message\.keys must be a string or an iterable of strings/],
    [() => producer.send({ topic, body, properties: { a: 1 } }), /^message\.properties\["a"\] must be a string/],
    [() => producer.send({ topic, body, properties: new Map() }), /^message\.properties must be an object of strings/],
    [() => producer.send({ topic, body }, { timeout: 1 }), /^call has no field timeout; it takes signal$/],
    [() => producer.send({ topic, body }, { signal }), /^call\.signal must be an AbortSignal, not an object/],
    [() => producer.sendAll('text'), /^messages must be an iterable of messages, not the string "text"$/],
    [() => producer.sendAll([{ topic, body }, { topic }]), /^messages\[1\]\.body must be/],
    [() => producer.close({ deadline: 1 }), /^options has no field deadline; it takes deadlineMs, signal$/],
    [() => consumer.ack({ messageId: '1' }), /^delivery must be a Delivery that was received, not an object of class/],
    [() => consumer.ackAll({}), /^deliveries must be an iterable of deliveries/],
    [() => consumer.ackAll([null]), /^deliveries\[0\] must be a Delivery that was received, not null$/],
    [() => consumer.changeInvisible({}, 0), /^delivery must be a Delivery/],
    [() => consumer.receive({ maxMessage: 1 }), /^options has no field maxMessage; it takes maxMessages, /],
    [() => consumer.receive({ maxMessages: -1 }), /^options\.maxMessages must be a whole number from 0 to 4294967295/],
    [() => consumer.receive({ maxMessages: 1.5 }), /^options\.maxMessages must be a whole number/],
    [() => consumer.receive({ awaitMs: -1 }), /^options\.awaitMs must be a number of milliseconds from 0 to 1\.8e22/],
    [() => consumer.receive({ awaitMs: '1' }), /^options\.awaitMs must be a number of milliseconds/],
    [() => consumer.subscribeLite('a', { start: 'first' }), /^options\.start must be 'last' or 'min' or 'max', not the string "first"$/],
    [() => consumer.subscribeLite('a', { start: { offset: -1 } }), /^options\.start\.offset must be a whole number from 0 to 9007199254740991/],
    [() => consumer.subscribeLite('a', { start: { offset: 1, tail: 1 } }), /^options\.start must have one of offset, tail and timestamp$/],
    [() => client.producer({ topic: 'a' }), /^options has no field topic; it takes topics, /],
    [() => client.simpleConsumer({ subscriptions: [] }), /^options\.group must be a string, not undefined$/],
    [
      () => client.simpleConsumer({ group: 'g', subscriptions: [{ topic, tag: 'a' }] }),
      /^options\.subscriptions\[0\] has no field tag; it takes topic, tags, sql$/,
    ],
    [
      () => client.simpleConsumer({ group: 'g', subscriptions: [{ topic, tags: ['a'], sql: 'a = 1' }] }),
      /^options\.subscriptions\[0\] has both tags and sql/,
    ],
    [() => client.producer({ maxInFlightBytes: 2 ** 53 }), /^options\.maxInFlightBytes must be .* from 0 to 9007199254740991/],
    [() => Client.connect({ endpoints: 'h', requestTimeoutMs: 1e300 }), /1\.8e22, not the number 1e\+300$/],
    [async () => new Delivery(), /^a Delivery comes from a consumer; it cannot be created with `new Delivery`$/],
    [async () => new Client(server), /^a client is created with `await Client\.connect\(\.\.\.\)`$/],
    [() => Client.connect(), /^options must be an object with endpoints, .*, not undefined$/],
    [() => Client.connect({ endpoint: 'misspelt' }), /^options has no field endpoint; it takes endpoints, /],
    [() => Client.connect({ endpoints: 8081 }), /^options\.endpoints must be a string or an iterable of strings/],
    [
      () => Client.connect({ endpoints: 'h', credentials: { accessKey: 'a', secret: 'b' } }),
      /^options\.credentials has no field secret; it takes accessKey, secretKey, sessionToken, expiresAt$/,
    ],
    [() => Client.connect({ endpoints: 'h', retry: { attempts: 1 } }), /^options\.retry has no field attempts/],
    [() => Client.connect({ endpoints: 'h', tls: 'yes' }), /^options\.tls must be true, false or an object with ca, /],
    [() => Client.connect({ endpoints: 'h', tls: { pem: '' } }), /^options\.tls has no field pem; it takes ca, cert, /],
    [() => Client.connect('h', { namespace: 'prod' }), /^call has no field namespace; it takes signal$/],
  ];
  for (const [call, expected] of wrong) {
    const error = await rejection(call());
    assert.ok(error instanceof TypeError, `${call}: ${error}`);
    assert.match(error.message, expected);
  }
  await producer.send({ topic, body: 'still working' });
});

test('a byte limit may exceed 4 GiB', async () => {
  const producer = await client.producer({ maxInFlightBytes: Number.MAX_SAFE_INTEGER, compressAbove: 2 ** 33 });
  const topic = name();
  await producer.send({ topic, body: 'x' });
  const consumer = await client.simpleConsumer({ group: name(), subscriptions: topic, maxBodySize: 2 ** 33 });
  for await (const delivery of consumer.messages({ maxBytes: 2 ** 33 })) {
    assert.equal(String(delivery.body), 'x');
    break;
  }
  await consumer.close();
});

test('a string is one name, and null means that an option is left out', async () => {
  const topic = name();
  const connected = await Client.connect(server);
  const producer = await connected.producer({ topics: topic, maxInFlightMessages: null });
  const filtered = { topic, tags: 'tag' };
  const consumer = await connected.simpleConsumer({ group: name(), subscriptions: filtered });
  const whole = await connected.simpleConsumer({ group: name(), subscriptions: topic });
  await producer.send({ topic, body: 'x', tag: 'tag', keys: 'a key', properties: null });
  for (const each of [consumer, whole]) {
    const [delivery] = await receive(each, 1);
    assert.deepEqual(delivery.keys, ['a', 'key']);
    // A delivery can be forwarded: it has the fields of a message.
    if (each === whole) await producer.send({ ...delivery, tag: 'other' });
  }
  const [again] = await receive(whole, 1);
  assert.deepEqual([again.body.toString(), again.tag], ['x', 'other']);
  await connected.close();
});

test('clients, producers and consumers are shown without secrets', async () => {
  const secret = { accessKey: 'reader', secretKey: 's3cret' };
  const shown = await Client.connect({ endpoints: server, credentials: secret });
  const objects = [await shown.producer(), await shown.simpleConsumer({ group: 'g', subscriptions: name() })];
  objects.push(await shown.pushConsumer({ group: 'h', subscriptions: name(), handler: () => {} }));
  const expected = [`Client { endpoints: '${server}' }`, `Producer { endpoints: '${server}' }`];
  expected.push(`SimpleConsumer { group: 'g', endpoints: '${server}' }`);
  expected.push(`PushConsumer { group: 'h', endpoints: '${server}' }`);
  assert.deepEqual([shown, ...objects].map((each) => inspect(each)), expected);
  assert.deepEqual([shown, ...objects].map(String), expected);
  await shown.close();
});

test('close reports its result', async () => {
  const { topic, producer } = await pair();
  await producer.send({ topic, body: 'x' });
  const { flushed, abandoned, elapsedMs } = await producer.close({ deadlineMs: 5_000 });
  assert.deepEqual([flushed, abandoned], [0, 0]);
  assert.ok(elapsedMs >= 0);
});

test('the error of a forgotten await names the call', async () => {
  const connecting = Client.connect(server);
  assert.throws(() => connecting.producer(), /^TypeError: Client\.connect\(\.\.\.\) returns a promise; write `await Client/);
  const another = await connecting;
  const [producer, consumer] = [another.producer(), another.simpleConsumer({ group: name(), subscriptions: [name()] })];
  assert.throws(() => producer.send({ topic: name(), body: 'x' }), /await client\.producer/);
  // Inherited methods, too.
  assert.throws(() => consumer.liteTopics(), /await client\.simpleConsumer/);
  await Promise.all([producer, consumer]);
  await another.close();
});

test('text with lone surrogates is refused with the name of its field', async () => {
  const { topic, producer } = await pair();
  const lone = 'a\ud800';
  const fields = [{ body: lone }, { tag: lone }, { keys: [lone] }, { properties: { a: lone } }, { properties: { [lone]: 'a' } }];
  for (const field of fields) {
    const error = await rejection(producer.send({ topic, body: 'x', ...field }));
    assert.ok(error instanceof TypeError);
    assert.match(error.message, new RegExp(`${Object.keys(field)[0]}.* without lone surrogates`));
  }
});

test('a stream keeps its consumer open', async () => {
  const { topic, producer } = await pair();
  const open = async () => (await client.simpleConsumer({ group: name(), subscriptions: topic })).messages();
  const stream = await open();
  const pending = stream.next();
  await collectGarbage();
  await producer.send({ topic, body: 'x' });
  assert.equal((await pending).done, false);
  await stream.close();
});

test('an iteration of revoked lite topics keeps its consumer open', async () => {
  const lazy = await Client.connect({ endpoints: '127.0.0.1:1', startup: 'lazy' });
  const open = async () => {
    const consumer = await lazy.simpleConsumer({ group: name(), lite: name() });
    return [new WeakRef(consumer), consumer.liteRevocations()];
  };
  const [consumer, revocations] = await open();
  const pending = revocations.next();
  await collectGarbage();
  assert.notEqual(consumer.deref(), undefined);
  await lazy.close({ deadlineMs: 0 });
  assert.equal((await pending).done, true);
});

test('a provider that throws a value without a text fails the send', async () => {
  for (const thrown of [Object.create(null), Object.assign(new Error(), { message: Object.create(null) })]) {
    const credentials = () => {
      throw thrown;
    };
    const other = await Client.connect({ endpoints: server, startup: 'lazy', credentials });
    const producer = await other.producer();
    const error = await rejection(producer.send({ topic: name(), body: 'x' }));
    assert.match(error.message, /a value without a text was thrown/);
    await other.close();
  }
});

test('interceptors see the failure of a whole batch for each of its items', async () => {
  const seen = [];
  const interceptor = {
    afterSend: (_, { reason }) => seen.push(reason),
    afterSettle: (_, { reason }) => seen.push(reason),
  };
  const other = await Client.connect({ endpoints: server, interceptors: [interceptor] });
  const topic = name();
  const producer = await other.producer();
  const consumer = await other.simpleConsumer({ group: name(), subscriptions: topic });
  await producer.send({ topic, body: 'x' });
  const [delivery] = await receive(consumer, 1);
  seen.length = 0;
  const signal = AbortSignal.abort();
  const batches = [
    producer.sendAll([{ topic, body: 'a' }, { topic, body: 'b' }], { signal }),
    consumer.ackAll([delivery, delivery], { signal }),
  ];
  for (const batch of batches) assert.equal(await rejection(batch), signal.reason);
  assert.deepEqual(seen, Array(4).fill(signal.reason));
  await other.close();
});
