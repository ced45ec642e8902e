// The Node client under measurement: one send call per message, 32 in flight.
import { createInterface } from 'node:readline';
import { Client } from 'rocketmq-thin';

const IN_FLIGHT = 32;
const WARM_UP = 5_000;
const body = Buffer.alloc(1024, 'x');

async function send(producer, count) {
  let left = count;
  const worker = async () => {
    while (left-- > 0) await producer.send({ topic: 'bench', body, tag: 't', keys: ['key'] });
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, worker));
}

const client = await Client.connect({ endpoints: process.argv[2] });
const producer = await client.producer({ topics: ['bench'] });
await send(producer, WARM_UP);
console.log('ready');
// Reading standard input keeps the process, and with it its CPU account, until the benchmark has read it.
for await (const line of createInterface({ input: process.stdin })) {
  await send(producer, Number(line));
  console.log('done');
}
