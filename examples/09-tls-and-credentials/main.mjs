// Connects with TLS to a server with a private certificate authority, and signs requests with an access key.
//
//     node main.mjs HOST:PORT ca.pem

import { readFileSync } from 'node:fs';

import { Client, RocketMQError } from 'rocketmq-thin';

const [endpoints = '127.0.0.1:8081', file = 'ca.pem'] = process.argv.slice(2);
const ca = readFileSync(file);

// The certificate authorities of the system do not include this authority.
try {
  await Client.connect({ endpoints, tls: true });
} catch (error) {
  if (!(error instanceof RocketMQError) || error.kind !== 'Tls') throw error;
  console.log('refused      the certificate is not trusted');
}

const credentials = { accessKey: 'an-access-key', secretKey: 'its secret key' };
const client = await Client.connect({ endpoints, tls: { ca }, credentials });
const producer = await client.producer({ topics: 'secrets' });
const consumer = await client.simpleConsumer({ group: 'keepers', subscriptions: 'secrets' });

await producer.send({ topic: 'secrets', body: 'hello' });
console.log('sent         hello');
for (const delivery of await consumer.receive()) {
  console.log(`received     ${delivery.body}`);
  await consumer.ack(delivery);
}

await client.close();
