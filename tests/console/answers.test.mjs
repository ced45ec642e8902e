// Answers that come late, in parts, or not at all.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { Proxy, launch, open, settled, visit } from './browser.mjs';

const READS = '**/v1/topics/orders/messages?*';
const FAILURE = { status: 503, json: { detail: 'not now' } };

let proxy;
let browser;

before(async () => {
  proxy = await Proxy.start();
  await proxy.call('POST', '/v1/topics', { name: 'orders', queues: 2 });
  for (let number = 0; number < 60; number += 1) {
    await proxy.call('POST', '/v1/topics/orders/messages', { text: `order ${number}` });
  }
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await proxy?.stop();
});

test('rows stay when older ones can’t be read, and older ones can be read then', async () => {
  const page = await open(browser, proxy);
  await visit(page, '/messages/orders');
  await page.getByText('The newest 50 messages.').waitFor();
  // One of the two queues.
  await page.route(READS, (route) => (route.request().url().includes('queue=1') ? route.fulfill(FAILURE) : route.continue()));
  await page.getByRole('button', { name: 'Older messages' }).click();
  await page.getByRole('alert').getByText('not now').waitFor();
  await page.getByText('The newest 55 messages.').waitFor();
  await page.unroute(READS);
  await page.getByRole('button', { name: 'Older messages' }).click();
  await page.getByText('The newest 60 messages.').waitFor();
  await page.getByText('1–50 of 60').waitFor();
  assert.equal(await page.getByRole('alert').count(), 0);
  assert.equal(await page.getByRole('button', { name: 'Older messages' }).count(), 0);
  assert.deepEqual(page.wrong, []);
});

test('the newest messages are all shown, even if an answer has a part of them', async () => {
  const page = await open(browser, proxy);
  await settled(page);
  await page.route(READS, (route) => {
    const url = new URL(route.request().url());
    url.searchParams.set('max', 10);
    return route.continue({ url: url.href });
  });
  await visit(page, '/messages/orders');
  await page.getByText('The newest 50 messages.').waitFor();
  assert.deepEqual(page.wrong, []);
});

test('a search that is stopped shows what it has found', async () => {
  const page = await open(browser, proxy);
  await settled(page);
  // It finds the first message of both queues, and then goes on for ever.
  let found = 0;
  let bothFound;
  const both = new Promise((resolve) => {
    bothFound = resolve;
  });
  await page.route(READS, async (route) => {
    const offset = Number(new URL(route.request().url()).searchParams.get('offset'));
    let messages = [];
    if (offset === 0) {
      ({ messages } = await (await route.fetch()).json());
      found += 1;
      if (found === 2) bothFound();
    }
    await both;
    await route.fulfill({ json: { messages: messages.slice(0, 1), next_offset: offset + 1, looked_at: 1, finished: false } });
  });
  await visit(page, '/messages/orders?from=2020-01-01T00:00:00Z');
  await page.getByText(/Searched [1-9]\d/).waitFor();
  await page.getByRole('button', { name: 'Stop' }).click();
  await page.getByText('Stopped: 2 found among').waitFor();
  assert.equal(await page.locator('tbody tr').count(), 2);
  await page.unroute(READS);
  // An answer that does not go on ends it.
  await page.route(READS, (route) => route.fulfill({ json: { messages: [], next_offset: 0, looked_at: 0, finished: false } }));
  await page.getByRole('button', { name: 'Continue' }).click();
  await page.getByText(/^2 found among/).waitFor();
  await page.unroute(READS);
  // A search that fails at once shows nothing of the one before.
  await page.route('**/v1/topics/orders/stats*', (route) => route.fulfill(FAILURE));
  await page.getByRole('button', { name: 'Search' }).click();
  await page.getByRole('alert').getByText('not now').waitFor();
  assert.equal(await page.locator('tbody tr').count(), 0);
  assert.deepEqual(page.wrong, []);
});

test('an answer that comes late does not replace a later one', async () => {
  const page = await open(browser, proxy);
  await settled(page);
  let release;
  const released = new Promise((resolve) => {
    release = resolve;
  });
  let asked;
  const isAsked = new Promise((resolve) => {
    asked = resolve;
  });
  await page.route('**/v1/topics', async (route) => {
    asked();
    await released;
    await route.fulfill({ json: { topics: [{ name: 'outdated', type: 'normal', perm: 'rw' }] } });
  }, { times: 1 });
  await page.evaluate(() => {
    location.hash = '/topics';
  });
  await isAsked;
  const late = page.waitForResponse('**/v1/topics');
  await page.getByRole('button', { name: 'Refresh', exact: true }).click();
  await page.getByRole('link', { name: 'orders' }).waitFor();
  await late;
  const outdated = page.waitForResponse('**/v1/topics');
  release();
  await (await outdated).finished();
  await page.waitForLoadState('networkidle');
  assert.equal(await page.getByRole('link', { name: 'outdated' }).count(), 0);
  assert.equal(await page.getByRole('link', { name: 'orders' }).count(), 1);
  assert.deepEqual(page.wrong, []);
});

test('a message that could not be read is read again', async () => {
  const page = await open(browser, proxy);
  await settled(page);
  await page.route(READS, (route) => route.fulfill(FAILURE), { times: 1 });
  await visit(page, '/messages/orders/broker-a/0/3');
  await page.getByRole('alert').first().waitFor();
  await page.getByRole('button', { name: 'Refresh', exact: true }).click();
  await page.getByRole('region', { name: 'Body' }).getByText('order').waitFor();
  await settled(page);
  assert.equal(await page.getByRole('alert').count(), 0);
  await page.getByRole('button', { name: 'Next in the queue' }).click();
  await page.getByRole('heading', { level: 1, name: 'Offset 4 of queue 0' }).waitFor();
  assert.deepEqual(page.wrong, []);
});
