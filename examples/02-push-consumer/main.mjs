// Handles messages as they arrive, several at a time. One fails at its first attempt, and is delivered again.
//
//     node main.mjs HOST:PORT

import { Client } from 'rocketmq-thin';

const [endpoints = '127.0.0.1:8081'] = process.argv.slice(2);
const client = await Client.connect({ endpoints });
const producer = await client.producer({ topics: 'invoices' });

const handled = [];
let done;
const all = new Promise((resolve) => (done = resolve));
await client.pushConsumer({
  group: 'accounting',
  subscriptions: 'invoices',
  concurrency: 16,
  handler: ({ body, attempt }) => {
    // Delivered again after 1 s. With 'retry', the retry policy of the group decides when.
    if (String(body) === 'invoice 2' && attempt === 1) return { retryAfterMs: 1_000 };
    handled.push(`${body}, attempt ${attempt}`);
    if (handled.length === 3) done();
  },
});

for (const number of [1, 2, 3]) await producer.send({ topic: 'invoices', body: `invoice ${number}` });

await all;
for (const invoice of handled.sort()) console.log(`handled      ${invoice}`);

// Waits for running handlers, settles their messages, and gives back messages that were not handled.
await client.close();
