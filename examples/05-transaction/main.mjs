// Delivers a message only if a local change succeeded, even if the program does not decide about the transaction.
//
//     rocketmq-thin-proxy topic create payments --type transaction
//     node main.mjs HOST:PORT

import { Client } from 'rocketmq-thin';

const [endpoints = '127.0.0.1:8081'] = process.argv.slice(2);
const client = await Client.connect({ endpoints });
const producer = await client.producer({
  topics: 'payments',
  // The server asks about transactions without a decision. A real program reads its database.
  checker: async ({ message }) => {
    console.log(`asked        ${message.body}`);
    return 'commit';
  },
});
const consumer = await client.simpleConsumer({ group: 'ledger', subscriptions: 'payments' });

/** Waits for one message and acknowledges it. */
async function receiveOne() {
  for (;;) {
    const [delivery] = await consumer.receive({ maxMessages: 1 });
    if (delivery === undefined) continue;
    console.log(`received     ${delivery.body}`);
    return await consumer.ack(delivery);
  }
}

const first = producer.begin();
await first.send({ topic: 'payments', body: 'payment 1' });
await first.commit();
console.log('committed    payment 1');

const second = producer.begin();
await second.send({ topic: 'payments', body: 'payment 2' });
await second.rollback();
console.log('rolled back  payment 2');

await receiveOne();

// The program forgets to decide about this transaction.
await producer.begin().send({ topic: 'payments', body: 'payment 3' });
console.log('forgot       payment 3');

await receiveOne();

await client.close();
