// Whatever strangers can put into messages and names stays text.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { Proxy, check, launch, open, settled, text, visit } from './browser.mjs';

const SCRIPT = '<script>alert("ran")</script><img src=x onerror=alert("ran")>';
const LINK = 'javascript:alert("ran")';

let proxy;
let browser;

before(async () => {
  proxy = await Proxy.start();
  await proxy.call('POST', '/v1/topics', { name: 'orders', queues: 1 });
  await proxy.call('POST', '/v1/topics/orders/messages', {
    text: SCRIPT, keys: [SCRIPT.replaceAll(' ', '\u00a0')], properties: { [SCRIPT.replaceAll(' ', '/')]: SCRIPT, link: LINK, ['__proto__']: 'x' }, tag: '<b>tag</b>',
  });
  const { messages: [{ handle }] } = await proxy.call('POST', '/v1/groups/g/topics/orders/receive?max=1');
  await proxy.call('POST', '/v1/groups/g/topics/orders/dead-letter', { handles: [handle] });
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await proxy?.stop();
});

// Names that the proxy itself would not take, as other brokers might.
async function lie(page) {
  const client = {
    id: SCRIPT, address: SCRIPT, language: SCRIPT, version: '', namespace: SCRIPT, kind: SCRIPT, group: SCRIPT,
    topics: [SCRIPT, LINK], since: SCRIPT, connected: true,
  };
  await page.route('**/v1/clients*', (route) => route.fulfill({ json: { clients: [client], truncated: true } }));
  await page.route('**/v1/topics', (route) => route.fulfill({ json: { topics: [{ name: SCRIPT, type: SCRIPT, perm: SCRIPT }] } }));
  await page.route('**/v1/groups', (route) => route.fulfill({ status: 503, json: { detail: SCRIPT } }));
  await page.route('**/v1/quotas', (route) => route.fulfill({ body: SCRIPT }));
}

test('messages, names and errors can’t run anything', async () => {
  const page = await open(browser, proxy);
  await settled(page);
  for (const route of ['/messages/orders', '/messages/orders/broker-a/0/0', '/dead-letters/g', `/topics/${encodeURIComponent(SCRIPT)}`, `/${SCRIPT}`, '/topics/%E0%A4%A']) {
    await visit(page, route);
    await page.waitForLoadState('networkidle');
    await check(page, `hostile-${route.replaceAll(/\W+/g, '-').slice(0, 30)}`);
  }
  await visit(page, '/messages/orders/broker-a/0/0');
  assert.ok((await text(page)).includes(SCRIPT), 'it is shown as it is');
  await page.getByText('Nothing was recorded').waitFor();
  assert.equal(await page.getByRole('alert').count(), 0, 'without message trace');
  await lie(page);
  for (const route of ['/topics', '/groups', '/clients', '/quotas', '/']) {
    await visit(page, route);
    await page.waitForLoadState('networkidle');
    assert.deepEqual(page.wrong, [], route);
  }
  assert.equal(await page.locator('main script, main img, main iframe').count(), 0);
});

test('what is injected all the same is blocked', async () => {
  const page = await open(browser, proxy);
  const blocked = await page.evaluate(() => {
    try {
      document.body.innerHTML = '<p>';
      return false;
    } catch {
      return true;
    }
  });
  assert.ok(blocked);
  await page.evaluate(() => {
    globalThis.reports = [];
    addEventListener('securitypolicyviolation', (event) => globalThis.reports.push(event.effectiveDirective));
    const image = document.createElement('img');
    image.src = 'http://127.0.0.1:1/x.png';
    document.body.append(image);
    fetch('http://127.0.0.1:1/').catch(() => {});
  });
  await page.waitForFunction(() => ['img-src', 'connect-src'].every((directive) => globalThis.reports.includes(directive)));
});
