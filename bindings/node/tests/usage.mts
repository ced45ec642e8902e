// Code that the compiler must accept, and, after @ts-expect-error, must refuse. The program is also run.

import { Client, RocketMQError, type Delivery, type ErrorKind, type Interceptor, type Metric, type OffsetOption, type PushConsumer, type Receipt, type Settled, type Subscription } from 'rocketmq-thin';

const [endpoints = '', topic = ''] = process.argv.slice(-2);

function advice(kind: ErrorKind): string {
  // There is no default: the compiler checks that each kind has a case.
  switch (kind) {
    case 'TopicNotFound':
    case 'GroupNotFound':
    case 'NotFound':
      return 'create it';
    case 'Throttled':
    case 'Timeout':
    case 'Unavailable':
      return 'later';
    case 'InvalidArgument':
    case 'TypeMismatch':
    case 'TooLarge':
    case 'InvalidOptions':
    case 'InvalidReceipt':
    case 'Unsupported':
    case 'Protocol':
      return 'fix the program';
    case 'Unauthenticated':
    case 'PermissionDenied':
    case 'Tls':
      return 'ask for access';
    case 'Closed':
      return 'open it';
    case 'Internal':
      return 'report it';
  }
}

async function main(): Promise<void> {
  let received = 0;
  const interceptor: Interceptor = {
    beforeSend: (message) => {
      message.properties['origin'] = 'usage';
    },
    afterReceive: (_, result) => {
      if (result.status === 'fulfilled') received += result.value.length;
    },
  };
  const options = { endpoints: [endpoints], tls: false, interceptors: [interceptor] };
  await using client = await Client.connect(options, { signal: AbortSignal.timeout(60_000) });
  await using producer = await client.producer({ topics: topic });
  await using consumer = await client.simpleConsumer({ group: topic, subscriptions: [topic, { topic: `${topic}-2`, tags: 'a' }] });

  const topics: string[] = consumer.subscriptions().map((each) => `${each.topic} ${each.sql ?? each.tags ?? 'all'}`);
  if (topics.length !== 2) throw new Error(`the subscriptions are ${topics.join()}`);

  const receipt: Receipt = await producer.send({ topic, body: new Uint8Array([104, 105]), properties: { a: 'b' } });
  const results: Settled<Receipt>[] = await producer.sendAll(new Set([{ topic, body: 'hi', keys: 'k' }]));
  for (const result of results) {
    if (result.status === 'rejected') throw new Error(advice(result.reason.kind));
    const id: string = result.value.messageId;
    if (id === receipt.messageId) throw new Error('two messages have the same id');
  }

  let seen = 0;
  for await (const delivery of consumer.messages({ maxMessages: 1 })) {
    const text: string = delivery.body.toString('utf8');
    await consumer.changeInvisible(delivery, 30_000);
    await consumer.ack(delivery);
    console.log(text);
    if (++seen === 2) break;
  }

  if (received < 2) throw new Error(`interceptors saw ${received} messages`);
  const counted = (metric: Metric) => metric.points.map(({ value }) => (typeof value === 'number' ? value : value.sum));
  if (client.metrics().flatMap(counted).length === 0) throw new Error('there are no metrics');

  const handled = new Promise<string>((resolve) => {
    void client.pushConsumer({
      group: `${topic}-push`,
      subscriptions: `${topic}-push`,
      concurrency: 4,
      handler: ({ body, attempt }) => {
        if (attempt === 1) return { retryAfterMs: 0 };
        resolve(String(body));
        return 'ack';
      },
    });
  });
  await producer.send({ topic: `${topic}-push`, body: 'pushed' });
  console.log(await handled);

  await using push = await client.pushConsumer({ group: `${topic}-other`, subscriptions: topic, handler: () => 'ack' });
  await push.subscribe({ topic: `${topic}-2`, tags: ['a'] }, { signal: AbortSignal.timeout(60_000) });
  await push.unsubscribe(topic);
  const left: Subscription[] = push.subscriptions();
  if (left.length !== 1) throw new Error(`${left.length} subscriptions are left`);

  try {
    await Client.connect('');
  } catch (error) {
    if (error instanceof RocketMQError) console.log(advice(error.kind), error.code ?? 'no code');
  }
}

async function lite(consumer: PushConsumer): Promise<void> {
  const starts: OffsetOption[] = ['last', 'min', 'max', { offset: 5 }, { tail: 10 }, { timestamp: new Date() }];
  for (const start of starts) await consumer.subscribeLite('alice', { start, signal: AbortSignal.timeout(1000) });
  await consumer.subscribeLite('bob');
  // @ts-expect-error: a position has one field
  await consumer.subscribeLite('alice', { start: { offset: 5, tail: 10 } });
}

async function refused(client: Client, delivery: Delivery): Promise<void> {
  // @ts-expect-error: a misspelt field
  await client.simpleConsumer({ group: 'g', subscriptions: { topic: 't', tag: 'a' } });
  // @ts-expect-error: a misspelt option
  await Client.connect({ endpoint: 'localhost' });
  // @ts-expect-error: tags or sql, not both
  await client.simpleConsumer({ group: 'g', subscriptions: [{ topic: 't', tags: ['a'], sql: 'a = 1' }] });
  // @ts-expect-error: subscriptions or lite, not both
  await client.simpleConsumer({ group: 'g', subscriptions: 't', lite: 't' });
  // @ts-expect-error: not a result of a handler
  await client.pushConsumer({ group: 'g', subscriptions: 't', handler: () => 'done' });
  // @ts-expect-error: the constructor is private
  new Client();
  // @ts-expect-error: deliveries are read-only
  delivery.body = Buffer.from('x');
  const kind: ErrorKind = 'Closed';
  // @ts-expect-error: no such kind
  if (kind === 'Broken') return;
}

await main();
void lite;
void refused;
