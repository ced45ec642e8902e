// Processes a message for longer than its lease: the client renews the lease, so no other consumer gets the message.
//
//     node main.mjs HOST:PORT

import { Client } from 'rocketmq-thin';

// The shortest lease that servers allow.
const LEASE_MS = 10_000;

const [endpoints = '127.0.0.1:8081'] = process.argv.slice(2);
const client = await Client.connect({ endpoints });
const producer = await client.producer({ topics: 'videos' });
const worker = await client.simpleConsumer({ group: 'encoders', subscriptions: 'videos' });
const colleague = await client.simpleConsumer({ group: 'encoders', subscriptions: 'videos' });

await producer.send({ topic: 'videos', body: 'a long film' });
for (const delivery of await worker.receive({ invisibleMs: LEASE_MS })) {
  console.log(`received     ${delivery.body}, for 10 s`);
  // Renews the lease in the background until the delivery is settled or dropped, for at most an hour.
  worker.keepLease(delivery, 3_600_000);

  const elsewhere = await colleague.receive({ awaitMs: 15_000 });
  console.log(`elsewhere    ${elsewhere.length} messages in 15 s`);

  await worker.ack(delivery);
  console.log('acknowledged after 15 s');
}

await client.close();
