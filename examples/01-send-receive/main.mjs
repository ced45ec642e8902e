// Sends a message, receives it, changes its invisible time, receives it again, and acknowledges it.
//
//     node main.mjs HOST:PORT

import { Client } from 'rocketmq-thin';

const [endpoints = '127.0.0.1:8081'] = process.argv.slice(2);
const client = await Client.connect({ endpoints });
const producer = await client.producer({ topics: ['greetings'] });
const consumer = await client.simpleConsumer({ group: 'readers', subscriptions: ['greetings'] });

await producer.send({ topic: 'greetings', body: 'hello', tag: 'en' });
console.log('sent         hello');

// Waits for a message. It is invisible to other consumers of the group for 30 s, the default.
for (const delivery of await consumer.receive()) {
  console.log(`received     ${delivery.body}, attempt ${delivery.attempt}`);
  // Not processed: after one second, any consumer of the group may receive it again.
  await consumer.changeInvisible(delivery, 1_000);
  console.log('put back     for 1 s');
}

for (const delivery of await consumer.receive()) {
  console.log(`received     ${delivery.body}, attempt ${delivery.attempt}`);
  // Processed: it is not delivered again. Without the ack, it would be, after the invisible time.
  await consumer.ack(delivery);
  console.log('acknowledged');
}

await client.close();
