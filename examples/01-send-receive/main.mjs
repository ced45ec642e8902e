// Send a message, receive it, keep it from others for a moment, receive it again, acknowledge it.
//
//     node main.mjs HOST:PORT

import { Client } from 'rocketmq-thin';

const [endpoints = '127.0.0.1:8081'] = process.argv.slice(2);
const client = await Client.connect({ endpoints });
const producer = await client.producer({ topics: ['greetings'] });
const consumer = await client.simpleConsumer({ group: 'readers', subscriptions: ['greetings'] });

await producer.send({ topic: 'greetings', body: 'hello', tag: 'en' });
console.log('sent         hello');

// Waits until there is a message. Nobody else gets it for the invisible duration, 30 s by default.
for (const delivery of await consumer.receive()) {
  console.log(`received     ${delivery.body}, attempt ${delivery.attempt}`);
  // Not done with it: from one second on it may be received again, by anybody in the group.
  await consumer.changeInvisible(delivery, 1_000);
  console.log('put back     for 1 s');
}

for (const delivery of await consumer.receive()) {
  console.log(`received     ${delivery.body}, attempt ${delivery.attempt}`);
  // Done: it never comes back. Without this it would, after the invisible duration.
  await consumer.ack(delivery);
  console.log('acknowledged');
}

await client.close();
