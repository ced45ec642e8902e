// The Node driver of the conformance suite: requests as JSON lines on stdin, replies on stdout.
//
// It only converts; tests/conformance/README.md describes the protocol.

import { createInterface } from 'node:readline';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Client, RocketMQError } from 'rocketmq-thin';

const FEATURES = [
  'message_types',
  'recall',
  'transactions',
  'subscribe',
  'settle',
  'keep_lease',
  'stream',
  'push_consumer',
  'lite',
  'health',
  'lazy',
  'tls_options',
  'credentials_provider',
  'compression',
  'metrics',
  'interceptors',
  'trace_context',
  'drop',
];

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc');

const made = new Map();
/** What handlers and checkers do, by the handle of their consumer or producer. */
const scripts = new Map();
const running = new Map();
let count = 0;

function name(prefix) {
  return `${prefix}${++count}`;
}

function keep(prefix, value) {
  const handle = name(prefix);
  made.set(handle, value);
  return handle;
}

/** What a handler or a checker does about a message, by the message's tag and by how often it has come. */
class Script {
  #answers;
  #otherwise;
  #seen = new Map();
  #released = later();

  constructor(answers, otherwise) {
    this.#answers = answers;
    this.#otherwise = otherwise;
  }

  async next(tag, id, released, tell = () => {}) {
    const answers = this.#answers[tag] ?? this.#answers['*'] ?? [this.#otherwise];
    const count = this.#seen.get(id) ?? 0;
    this.#seen.set(id, count + 1);
    let answer = answers[Math.min(count, answers.length - 1)];
    if (answer === 'hang') {
      await this.#released.promise;
      answer = released;
    }
    tell(answer);
    if (answer === 'throw') throw new Error('as scripted');
    return answer;
  }

  release() {
    this.#released.resolve();
  }
}

function later() {
  let resolve;
  const promise = new Promise((given) => (resolve = given));
  return { promise, resolve };
}

/** Tells of each item of an iterator, in the background. */
async function follow(items, tell) {
  for await (const item of items) tell(item);
}

/** Each call gets the next answer; the last one repeats. */
function provider(provided) {
  let calls = 0;
  return () => {
    const given = provided[Math.min(calls++, provided.length - 1)];
    if (given === 'throw') throw new Error('as scripted');
    return camelCased(given);
  };
}

/** An interceptor that reports each of its calls, and throws then if it is to. */
function reporting(how) {
  const report = (hook, topic, result) => {
    event('intercepted', { hook, topic, ok: result ? result.status === 'fulfilled' : null });
    if (how === 'throw') throw new Error('as scripted');
  };
  return {
    beforeSend: (message) => {
      message.properties.intercepted = 'yes';
      report('before_send', message.topic);
    },
    afterSend: ({ topic }, result) => report('after_send', topic, result),
    beforeReceive: () => report('before_receive', null),
    afterReceive: (_, result) => report('after_receive', null, result),
    beforeSettle: ({ delivery }) => report('before_settle', delivery.topic),
    afterSettle: ({ delivery }, result) => report('after_settle', delivery.topic, result),
  };
}

function certificates({ skip_verification: skip, ...tls }) {
  return { ...camelCased(tls), ...(skip && { dangerouslySkipVerification: true }) };
}

function healthShown({ status, error }) {
  return { status: status[0].toUpperCase() + status.slice(1), error: error ? String(error) : null };
}

function base64(body) {
  return body.toString('base64');
}

function event(event, fields) {
  reply({ event, ...fields });
}

const operations = {
  async features() {
    return { features: FEATURES };
  },

  async connect({ options }, call) {
    const { credentials, credentials_provider: provided, tls, interceptor, ...given } = options;
    const client = await Client.connect(
      {
        ...camelCased(given),
        ...(credentials && { credentials: camelCased(credentials) }),
        ...(provided && { credentials: provider(provided) }),
        ...(interceptor && { interceptors: [reporting(interceptor)] }),
        ...(tls && { tls: tls === 'system' ? true : certificates(tls) }),
      },
      call,
    );
    return { handle: keep('c', client) };
  },

  async producer({ client, checker, ...options }, call) {
    const handle = name('p');
    const script = checker && new Script(checker, 'unknown');
    scripts.set(handle, script);
    const check = async ({ message, messageId, transactionId }) => {
      event('asked', { handle, body: base64(message.body), message_id: messageId, transaction_id: transactionId });
      return await script.next(message.tag, messageId, 'commit');
    };
    const given = { ...camelCased(options), ...(script && { checker: check }) };
    made.set(handle, await made.get(client).producer(given, call));
    return { handle };
  },

  async consumer({ client, ...options }, call) {
    return { handle: keep('s', await made.get(client).simpleConsumer(options, call)) };
  },

  async push_consumer({ client, handler: answers = {}, ...options }, call) {
    const handle = name('k');
    const script = new Script(answers, 'ack');
    scripts.set(handle, script);
    const handler = async ({ body, messageId, attempt, messageGroup = null, tag }) => {
      const about = { handle, body: base64(body), message_id: messageId };
      event('start', { ...about, attempt, message_group: messageGroup });
      const answer = await script.next(tag, messageId, 'ack', (each) => event('end', { ...about, answer: each }));
      if (answer === 'dead_letter') return 'deadLetter';
      return typeof answer === 'string' ? answer : { retryAfterMs: answer.retry_after_ms };
    };
    const consumer = await made.get(client).pushConsumer({ ...camelCased(options), handler }, call);
    made.set(handle, consumer);
    if (options.lite) follow(consumer.liteRevocations(), (topic) => event('revoked', { handle, lite_topic: topic }));
    return { handle };
  },

  async release({ handle }) {
    scripts.get(handle).release();
    return {};
  },

  async pause({ consumer }) {
    made.get(consumer).pause();
    return {};
  },

  async resume({ consumer }) {
    made.get(consumer).resume();
    return {};
  },

  async recall({ producer, topic, recall_handle }, call) {
    return { message_id: await made.get(producer).recall({ topic, recallHandle: recall_handle }, call) };
  },

  async begin({ producer }) {
    return { handle: keep('t', made.get(producer).begin()) };
  },

  async commit({ transaction }, call) {
    await made.get(transaction).commit(call);
    return {};
  },

  async rollback({ transaction }, call) {
    await made.get(transaction).rollback(call);
    return {};
  },

  async subscribe({ consumer, ...subscription }, call) {
    await made.get(consumer).subscribe(subscription, call);
    return {};
  },

  async unsubscribe({ consumer, topic }, call) {
    await made.get(consumer).unsubscribe(topic, call);
    return {};
  },

  async nack({ consumer, delivery, after_ms }, call) {
    await made.get(consumer).nack(made.get(delivery), after_ms, call);
    return {};
  },

  async dead_letter({ consumer, delivery }, call) {
    await made.get(consumer).deadLetter(made.get(delivery), call);
    return {};
  },

  async keep_lease({ consumer, delivery, max_ms }) {
    made.get(consumer).keepLease(made.get(delivery), max_ms);
    return {};
  },

  async stream({ consumer, ...options }) {
    return { handle: keep('m', made.get(consumer).messages(camelCased(options))) };
  },

  async next({ stream }) {
    const { done, value } = await made.get(stream).next();
    return { message: done ? null : received(keep('d', value), value) };
  },

  async subscribe_lite({ consumer, lite_topic, from }, call) {
    const start = from?.timestamp_ms === undefined ? from : { timestamp: new Date(from.timestamp_ms) };
    await made.get(consumer).subscribeLite(lite_topic, { ...call, start });
    return {};
  },

  async unsubscribe_lite({ consumer, lite_topic }, call) {
    await made.get(consumer).unsubscribeLite(lite_topic, call);
    return {};
  },

  async lite_topics({ consumer }) {
    return { lite_topics: made.get(consumer).liteTopics() };
  },

  async health({ client }) {
    return healthShown(made.get(client).health());
  },

  async metrics({ client }) {
    const counted = made.get(client).metrics().filter(({ points }) => points.length > 0);
    return { metrics: Object.fromEntries(counted.map(({ name, points }) => [name, total(points)])) };
  },

  async drop({ handle }) {
    made.delete(handle);
    scripts.delete(handle);
    // What the pending calls of this turn refer to is free in the next.
    await new Promise(setImmediate);
    collectGarbage();
    return {};
  },

  async watch({ client }) {
    follow(made.get(client).statusChanges(), (health) => event('status', { handle: client, ...healthShown(health) }));
    return {};
  },

  async send({ producer, transaction, message }, call) {
    return snakeCased(await made.get(producer ?? transaction).send(sent(message), call));
  },

  async send_all({ producer, messages }, call) {
    return results(await made.get(producer).sendAll(messages.map(sent), call), snakeCased);
  },

  async receive({ consumer, ...options }, call) {
    const deliveries = await made.get(consumer).receive({ ...camelCased(options), ...call });
    return { messages: deliveries.map((delivery) => received(keep('d', delivery), delivery)) };
  },

  async ack({ consumer, delivery }, call) {
    await made.get(consumer).ack(made.get(delivery), call);
    return {};
  },

  async ack_all({ consumer, deliveries }, call) {
    const list = deliveries.map((name) => made.get(name));
    return results(await made.get(consumer).ackAll(list, call), () => ({}));
  },

  async change_invisible({ consumer, delivery, invisible_ms }, call) {
    await made.get(consumer).changeInvisible(made.get(delivery), invisible_ms, call);
    return {};
  },

  async cancel({ request }) {
    running.get(request)?.abort();
    return {};
  },

  async close({ handle, deadline_ms }, call) {
    if (handle.startsWith('m')) {
      await made.get(handle).close();
      return {};
    }
    return { report: snakeCased(await made.get(handle).close({ deadlineMs: deadline_ms, ...call })) };
  },

  async exit() {
    return {};
  },
};

function camelCased(fields) {
  const camel = (name) => name.replace(/_(.)/g, (_, letter) => letter.toUpperCase());
  return Object.fromEntries(Object.entries(fields).map(([name, value]) => [camel(name), value]));
}

function snakeCased(fields) {
  const snake = (name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  return Object.fromEntries(Object.entries(fields).map(([name, value]) => [snake(name), value]));
}

/** The sum over all labels. */
function total(points) {
  const sum = (numbers) => numbers.reduce((one, other) => one + other, 0);
  const values = points.map(({ value }) => value);
  if (typeof values[0] === 'number') return sum(values);
  return { count: sum(values.flatMap(({ counts }) => counts)), sum: sum(values.map((histogram) => histogram.sum)) };
}

function sent({ body, deliver_at_ms: time, ...message }) {
  const given = { ...camelCased(message), body: Buffer.from(body, 'base64') };
  return time === undefined ? given : { ...given, deliverAt: new Date(time) };
}

function received(name, { messageId, topic, body, tag = null, keys, properties, attempt, corrupted, ...rest }) {
  const { messageGroup = null, deliverAt, priority = null, liteTopic = null, deadLetterOrigin, traceParent = null } = rest;
  return {
    delivery: name,
    message_id: messageId,
    topic,
    body: base64(body),
    tag,
    keys,
    properties,
    attempt,
    corrupted,
    message_group: messageGroup,
    deliver_at_ms: deliverAt?.getTime() ?? null,
    priority,
    lite_topic: liteTopic,
    dead_letter_origin: deadLetterOrigin ? snakeCased(deadLetterOrigin) : null,
    trace_parent: traceParent,
  };
}

function results(settled, show) {
  const shown = (each) => (each.status === 'fulfilled' ? { ok: show(each.value) } : { error: error(each.reason) });
  return { results: settled.map(shown) };
}

function error(thrown) {
  if (!(thrown instanceof RocketMQError)) return { kind: 'Foreign', message: String(thrown) };
  const { kind, code = null, retryable, maybeDelivered, operation, message } = thrown;
  const causes = [];
  for (let each = thrown.cause; each; each = each.cause) causes.push(each.message);
  return { kind, code, retryable, maybe_delivered: maybeDelivered, operation, message, causes, shown: String(thrown) };
}

function reply(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

async function answer({ id, op, ...fields }) {
  const controller = new AbortController();
  running.set(id, controller);
  try {
    reply({ id, ok: await operations[op](fields, { signal: controller.signal }) });
  } catch (thrown) {
    const cancelled = controller.signal.aborted && thrown === controller.signal.reason;
    reply({ id, error: cancelled ? { kind: 'Cancelled' } : error(thrown) });
  }
  running.delete(id);
}

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  const answered = answer(request);
  if (request.op === 'exit') {
    await answered;
    break;
  }
}
// Requests that still run are abandoned, as at the end of any program.
process.exit(0);
