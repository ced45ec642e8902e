// The Node driver of the conformance suite: requests as JSON lines on stdin, replies on stdout.
//
// It only converts; tests/conformance/README.md describes the protocol.

import { createInterface } from 'node:readline';
import { Client, RocketMQError } from 'rocketmq-thin';

const made = new Map();
const running = new Map();
let count = 0;

function keep(prefix, value) {
  const name = `${prefix}${++count}`;
  made.set(name, value);
  return name;
}

const operations = {
  async connect({ options }, call) {
    const { credentials, tls, ...given } = options;
    const client = await Client.connect(
      {
        ...camelCased(given),
        ...(credentials && { credentials: camelCased(credentials) }),
        ...(tls && { tls: tls === 'system' ? true : tls }),
      },
      call,
    );
    return { handle: keep('c', client) };
  },

  async producer({ client, topics }, call) {
    return { handle: keep('p', await made.get(client).producer({ topics }, call)) };
  },

  async consumer({ client, group, subscriptions }, call) {
    return { handle: keep('s', await made.get(client).simpleConsumer({ group, subscriptions }, call)) };
  },

  async send({ producer, message }, call) {
    return snakeCased(await made.get(producer).send(sent(message), call));
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

function sent({ body, ...message }) {
  return { ...message, body: Buffer.from(body, 'base64') };
}

function received(name, { messageId, topic, body, tag = null, keys, properties, attempt, corrupted }) {
  const text = body.toString('base64');
  return { delivery: name, message_id: messageId, topic, body: text, tag, keys, properties, attempt, corrupted };
}

function results(settled, show) {
  const shown = (each) => (each.status === 'fulfilled' ? { ok: show(each.value) } : { error: error(each.reason) });
  return { results: settled.map(shown) };
}

function error(thrown) {
  if (!(thrown instanceof RocketMQError)) return { kind: 'Foreign', message: String(thrown) };
  const { kind, code = null, retryable, maybeDelivered, operation, message } = thrown;
  return { kind, code, retryable, maybe_delivered: maybeDelivered, operation, message, shown: String(thrown) };
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
