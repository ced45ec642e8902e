// Trace contexts of an application that has OpenTelemetry.

import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { name, run, startProxy } from './proxy.mjs';

// The functions of `@opentelemetry/api` that the client calls. A context is the `traceparent` alone.
const API = `
  const { AsyncLocalStorage } = require('node:async_hooks');
  const storage = new AsyncLocalStorage();
  exports.context = {
    active: () => storage.getStore(),
    with: (context, call, thisArg, ...args) => storage.run(context, () => call.apply(thisArg, args)),
  };
  exports.propagation = {
    inject: (context, carrier) => Object.assign(carrier, context && { traceparent: context }),
    extract: (_, carrier) => carrier.traceparent,
  };
`;

test('a message carries the active trace context, and its handler runs in it', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'rocketmq-thin-'));
  try {
    const api = join(folder, '@opentelemetry', 'api');
    mkdirSync(api, { recursive: true });
    writeFileSync(join(api, 'index.js'), API);
    const program = `
      import { createRequire } from 'node:module';
      import { Client } from 'rocketmq-thin';
      const { context } = createRequire(import.meta.url)('@opentelemetry/api');
      const [server, topic] = process.argv.slice(-2);
      const client = await Client.connect(server);
      const producer = await client.producer();
      const send = (body) => producer.send({ topic, body });
      await context.with('00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', send, undefined, 'traced');
      await client.pushConsumer({
        group: topic,
        subscriptions: topic,
        handler: async ({ traceParent }) => {
          await null;
          console.log(context.active() === traceParent, traceParent);
          setImmediate(() => client.close());
        },
      });
    `;
    process.env.NODE_PATH = folder;
    const { code, output } = await run(program, await startProxy(), name());
    assert.deepEqual([code, output], [0, 'true 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\n']);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
