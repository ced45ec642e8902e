// Receives only some messages of a topic: by their tags, or by an SQL expression on their properties.
//
//     node main.mjs HOST:PORT

import { Client } from 'rocketmq-thin';

const [endpoints = '127.0.0.1:8081'] = process.argv.slice(2);
const client = await Client.connect({ endpoints });
const producer = await client.producer({ topics: 'orders' });
const topic = 'orders';
const tagged = await client.simpleConsumer({ group: 'treasury', subscriptions: { topic, tags: ['paid', 'refunded'] } });
const expensive = await client.simpleConsumer({
  group: 'fraud-eu',
  subscriptions: { topic, sql: "amount > 100 AND region = 'eu'" },
});

for (const [body, tag, amount, region] of [
  ['order 1', 'paid', '250', 'eu'],
  ['order 2', 'new', '120', 'eu'],
  ['order 3', 'paid', '15', 'us'],
  ['order 4', 'new', '900', 'us'],
]) {
  await producer.send({ topic, body, tag, properties: { amount, region } });
}

/** Waits for two messages and acknowledges them. */
async function receiveTwo(consumer) {
  const orders = [];
  while (orders.length < 2) {
    for (const delivery of await consumer.receive()) {
      orders.push(String(delivery.body));
      await consumer.ack(delivery);
    }
  }
  return orders.sort().join(', ');
}

console.log(`by tag       ${await receiveTwo(tagged)}`);
console.log(`by SQL       ${await receiveTwo(expensive)}`);

await client.close();
