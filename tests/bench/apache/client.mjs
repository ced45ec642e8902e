// Apache's Node client under measurement.
import { createInterface } from 'node:readline';
import client from 'rocketmq-client-nodejs';

const { ConsumeResult, Producer, PushConsumer, SimpleConsumer } = client;
const IN_FLIGHT = 32;
const WARM_UP = 2_000;
const body = Buffer.alloc(1024, 'x');
const [endpoints, ...role] = process.argv.slice(2).reverse();
const logger = { info() {}, warn() {}, error() {}, debug() {}, close() {} };
const options = { endpoints, namespace: '', logger };

async function simpleConsumer(consumerGroup, topic) {
  const subscriptions = new Map([[topic, '*']]);
  const consumer = new SimpleConsumer({ ...options, consumerGroup, awaitDuration: 20_000, subscriptions });
  await consumer.startup();
  return consumer;
}

async function idle(count) {
  for (let number = 0; number < count; number++) {
    const consumer = await simpleConsumer(`bench-idle-${number}`, 'bench-idle');
    void (async () => {
      for (;;) await consumer.receive(32, 60_000);
    })();
  }
  console.log('ready');
}

async function measure() {
  const producer = new Producer({ ...options, topics: ['bench'] });
  await producer.startup();
  const consumer = await simpleConsumer('bench-apache-node', 'bench');

  const workloads = {
    async send(count) {
      let left = count;
      const worker = async () => {
        while (left-- > 0) await producer.send({ topic: 'bench', tag: 't', keys: ['key'], body });
      };
      await Promise.all(Array.from({ length: IN_FLIGHT }, worker));
    },

    // Its acks take one message each; those of a batch run at the same time.
    async receive(count) {
      for (let left = count; left > 0; ) {
        const messages = await consumer.receive(32, 60_000);
        await Promise.all(messages.map((message) => consumer.ack(message)));
        left -= messages.length;
      }
    },

    async push(count) {
      let left = count;
      const subscriptions = new Map([['bench', '*']]);
      const consumerGroup = 'bench-apache-node-push';
      await new Promise((resolve, reject) => {
        const messageListener = {
          async consume() {
            if (--left === 0) resolve();
            return ConsumeResult.SUCCESS;
          },
        };
        const pushed = new PushConsumer({ ...options, consumerGroup, subscriptions, messageListener });
        pushed.startup().catch(reject);
        // Its shutdown waits for long polls.
      });
    },
  };

  await workloads.send(WARM_UP);
  await workloads.receive(WARM_UP / 2);
  console.log('ready');
  for await (const line of createInterface({ input: process.stdin })) {
    const [workload, count] = line.split(' ');
    await workloads[workload](Number(count));
    console.log('done');
  }
  process.exit(0);
}

await (role.length > 0 ? idle(Number(role[0])) : measure());
