// Apache's Node client against a proxy: ENDPOINT TOPIC GROUP; prints "passed CHECK" per check.
import assert from 'node:assert/strict';
import client from 'rocketmq-client-nodejs';

const { ConsumeResult, Producer, PushConsumer, SimpleConsumer } = client;
const COUNT = 5;
const [endpoints, topic, group] = process.argv.slice(2);
const quiet = { info() {}, warn() {}, error: console.error, debug() {}, close() {} };
const options = { endpoints, namespace: '', logger: quiet };

const passed = check => console.log('passed %s', check);

async function send(producer) {
  const ids = new Set();
  for (let n = 0; n < COUNT; n++) {
    const body = Buffer.from(`hello ${n}`);
    const properties = new Map([['region', 'eu']]);
    const receipt = await producer.send({ topic, tag: 'new', keys: ['k1', 'k2'], properties, body });
    ids.add(receipt.messageId);
  }
  return ids;
}

async function receiveAndAck(consumer, sent) {
  const received = [];
  while (received.length < COUNT) {
    for (const message of await consumer.receive(16, 30_000)) {
      assert(sent.has(message.messageId), `a message that was not sent: ${message.messageId}`);
      assert.match(message.body.toString(), /^hello /);
      assert.equal(message.tag, 'new');
      assert.deepEqual([...message.keys].sort(), ['k1', 'k2']);
      assert.equal(message.properties.get('region'), 'eu');
      received.push(message);
    }
  }
  passed('receive');

  await consumer.changeInvisibleDuration(received[0], 10_000);
  passed('change_invisible');

  for (const message of received) await consumer.ack(message);
  // Three long polls are longer than the shortest lease.
  for (let n = 0; n < 3; n++) {
    const left = await consumer.receive(16, 10_000);
    assert.equal(left.length, 0, 'received again after the ack');
  }
  passed('ack');
}

function pushed() {
  const seen = new Set();
  return new Promise((resolve, reject) => {
    const messageListener = {
      async consume(message) {
        seen.add(message.messageId);
        if (seen.size === COUNT) resolve();
        return ConsumeResult.SUCCESS;
      },
    };
    const subscriptions = new Map([[topic, '*']]);
    const consumer = new PushConsumer({ ...options, consumerGroup: `${group}-push`, subscriptions, messageListener });
    consumer.startup().catch(reject);
    setTimeout(() => reject(new Error(`${seen.size} of ${COUNT} messages were pushed`)), 60_000);
  });
}

const producer = new Producer({ ...options, topics: [topic] });
await producer.startup();
const sent = await send(producer);
passed('send');

const subscriptions = new Map([[topic, '*']]);
const consumer = new SimpleConsumer({ ...options, consumerGroup: group, awaitDuration: 5_000, subscriptions });
await consumer.startup();
await receiveAndAck(consumer, sent);

await pushed();
passed('push');
// Its shutdown waits for long polls, and nothing of ours depends on it.
process.exit(0);
