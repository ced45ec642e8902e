// Uses lite topics, small topics within a topic: a consumer receives only the lite topics that it subscribes to.
//
//     rocketmq-thin-proxy topic create chats --type lite
//     rocketmq-thin-proxy group create phones --lite-bind-topic chats
//     node main.mjs HOST:PORT

import { Client } from 'rocketmq-thin';

const [endpoints = '127.0.0.1:8081'] = process.argv.slice(2);
const client = await Client.connect({ endpoints });
const producer = await client.producer({ topics: 'chats' });

let done;
const first = new Promise((resolve) => (done = resolve));
const consumer = await client.pushConsumer({ group: 'phones', lite: 'chats', handler: (delivery) => done(delivery) });
await consumer.subscribeLite('alice');

await producer.send({ topic: 'chats', body: 'hello Bob', liteTopic: 'bob' });
await producer.send({ topic: 'chats', body: 'hello Alice', liteTopic: 'alice' });

const delivery = await first;
console.log(`received     ${delivery.body} in ${delivery.liteTopic}`);
await consumer.unsubscribeLite('alice');

await client.close();
