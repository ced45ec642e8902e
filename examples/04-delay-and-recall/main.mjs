// Sends delayed messages, and recalls one before it is delivered.
//
//     rocketmq-thin-proxy topic create reminders --type delay
//     node main.mjs HOST:PORT

import { Client } from 'rocketmq-thin';

const [endpoints = '127.0.0.1:8081'] = process.argv.slice(2);
const client = await Client.connect({ endpoints });
const producer = await client.producer({ topics: 'reminders' });
const consumer = await client.simpleConsumer({ group: 'people', subscriptions: 'reminders' });

const sentAt = Date.now();
const delayMs = 2_000;
await producer.send({ topic: 'reminders', body: 'drink water', delayMs });
console.log('sent         drink water, for 2 s later');

const deliverAt = new Date(sentAt + 8_000);
const receipt = await producer.send({ topic: 'reminders', body: 'go home', deliverAt });
console.log('sent         go home, for 8 s later');

await producer.recall(receipt);
console.log('recalled     go home');

for (const delivery of await consumer.receive()) {
  const early = Date.now() < sentAt + delayMs;
  console.log(`received     ${delivery.body}, ${early ? 'early' : 'not early'}`);
  await consumer.ack(delivery);
}

const more = await consumer.receive({ awaitMs: 10_000 });
console.log(`received     ${more.length} more`);

await client.close();
