// Handles the messages of one message group in the order in which they were sent, and different groups concurrently.
//
//     rocketmq-thin-proxy topic create parcels --type fifo
//     rocketmq-thin-proxy group create tracking --fifo
//     node main.mjs HOST:PORT

import { Client } from 'rocketmq-thin';

const [endpoints = '127.0.0.1:8081'] = process.argv.slice(2);
const client = await Client.connect({ endpoints });
const producer = await client.producer({ topics: 'parcels' });

const steps = { 'parcel 1': [], 'parcel 2': [] };
let done;
const all = new Promise((resolve) => (done = resolve));
await client.pushConsumer({
  group: 'tracking',
  subscriptions: 'parcels',
  handler: ({ body, attempt, messageGroup }) => {
    // The next message of this parcel is not delivered before this message is acknowledged.
    if (String(body) === 'packed' && attempt === 1) return { retryAfterMs: 1_000 };
    steps[messageGroup].push(String(body));
    if (Object.values(steps).flat().length === 6) done();
  },
});

for (const step of ['packed', 'shipped', 'delivered']) {
  for (const parcel of ['parcel 1', 'parcel 2']) {
    await producer.send({ topic: 'parcels', body: step, messageGroup: parcel });
  }
}

await all;
for (const [parcel, done] of Object.entries(steps)) console.log(`${parcel}     ${done.join(', ')}`);
await client.close();
