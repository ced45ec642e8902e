// The Node client under measurement: sends one call per message, 32 in flight; receives and acknowledges 32 at a time;
// handles messages with a push consumer.
import { createInterface } from 'node:readline';
import { Client } from 'rocketmq-thin';

const IN_FLIGHT = 32;
const WARM_UP = 5_000;
const body = Buffer.alloc(1024, 'x');

const [endpoints, ...role] = process.argv.slice(2).reverse();

if (role.length > 0) await idle(Number(role[0]));

const client = await Client.connect({ endpoints });
const producer = await client.producer({ topics: ['bench'] });
const consumer = await client.simpleConsumer({ group: 'bench-node', subscriptions: 'bench' });

const workloads = {
  async send(count) {
    let left = count;
    const worker = async () => {
      while (left-- > 0) await producer.send({ topic: 'bench', body, tag: 't', keys: ['key'] });
    };
    await Promise.all(Array.from({ length: IN_FLIGHT }, worker));
  },

  async receive(count) {
    for (let left = count; left > 0; ) {
      const deliveries = await consumer.receive();
      await consumer.ackAll(deliveries);
      left -= deliveries.length;
    }
  },

  async push(count) {
    let left = count;
    const { promise, resolve } = withResolvers();
    const pushed = await client.pushConsumer({
      group: 'bench-node-push',
      subscriptions: 'bench',
      concurrency: IN_FLIGHT,
      async handler() {
        if (--left === 0) resolve();
      },
    });
    await promise;
    await pushed.close();
  },
};

/** That many clients with a receive each, until standard input ends. */
async function idle(count) {
  for (let number = 0; number < count; number++) {
    const client = await Client.connect({ endpoints });
    const consumer = await client.simpleConsumer({ group: `bench-idle-${number}`, subscriptions: 'bench-idle' });
    void (async () => {
      for (;;) await consumer.receive();
    })();
  }
  console.log('ready');
  for await (const _ of process.stdin);
  process.exit();
}

/** `Promise.withResolvers()`, which Node 20 lacks. */
function withResolvers() {
  let resolve;
  const promise = new Promise((fulfil) => (resolve = fulfil));
  return { promise, resolve };
}

await workloads.send(WARM_UP);
await workloads.receive(WARM_UP / 2);
console.log('ready');
for await (const line of createInterface({ input: process.stdin })) {
  const [workload, count] = line.split(' ');
  await workloads[workload](Number(count));
  console.log('done');
}
await client.close();
