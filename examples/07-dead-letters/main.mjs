// Moves messages that can't be processed to the dead letters, after the last attempt or at once, and reads them.
//
//     rocketmq-thin-proxy group create parsers --max-retries 1
//     node main.mjs HOST:PORT

import { Client } from 'rocketmq-thin';

const [endpoints = '127.0.0.1:8081'] = process.argv.slice(2);
const client = await Client.connect({ endpoints });
const producer = await client.producer({ topics: 'documents' });
const consumer = await client.simpleConsumer({ group: 'parsers', subscriptions: 'documents' });

async function receiveOne(consumer) {
  for (;;) {
    const [delivery] = await consumer.receive({ maxMessages: 1 });
    if (delivery !== undefined) return delivery;
  }
}

await producer.send({ topic: 'documents', body: 'half a document' });
for (let times = 0; times < 2; times++) {
  const delivery = await receiveOne(consumer);
  console.log(`failed       ${delivery.body}, attempt ${delivery.attempt}`);
  // Delivered again at once. The group allows one retry.
  await consumer.nack(delivery, 0);
}

await producer.send({ topic: 'documents', body: 'no document' });
const delivery = await receiveOne(consumer);
console.log(`gave up      ${delivery.body}`);
await consumer.deadLetter(delivery);

// Each group has a topic for its dead letters.
const reader = await client.simpleConsumer({ group: 'support', subscriptions: '%DLQ%parsers' });
const letters = [];
while (letters.length < 2) {
  const letter = await receiveOne(reader);
  letters.push(String(letter.body));
  await reader.ack(letter);
}
for (const letter of letters.sort()) console.log(`dead letter  ${letter}`);

await client.close();
