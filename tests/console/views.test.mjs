// All views, without access control.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { NARROW, Proxy, WIDE, check, launch, open, settled, text, visit } from './browser.mjs';

let proxy;
let browser;

before(async () => {
  proxy = await Proxy.start('[[quotas]]\nname = "guests"\nper = "client"\nclient = "guest-*"\nrequests_per_second = 1\n[message_trace]\ntopics = ["rooms"]\n');
  await proxy.call('POST', '/v1/topics', { name: 'orders', queues: 4 });
  await proxy.call('POST', '/v1/topics', { name: 'invoices', type: 'fifo', queues: 2, retention: '7d' });
  await proxy.call('POST', '/v1/groups', { name: 'billing', max_retries: 1 });
  for (let number = 0; number < 60; number += 1) {
    await proxy.call('POST', '/v1/topics/orders/messages', {
      text: JSON.stringify({ order: number, price: 10 }), tag: 'new', keys: [`order-${number}`], properties: { shop: 'north' },
    });
  }
  await proxy.call('POST', '/v1/topics/orders/messages', { body: Buffer.from([0, 1, 2, 255]).toString('base64'), keys: ['bytes'] });
  const { messages } = await proxy.call('POST', '/v1/groups/billing/topics/orders/receive?max=10&invisible=1m');
  const handles = messages.map(({ handle }) => handle);
  await proxy.call('POST', '/v1/groups/billing/topics/orders/ack', { handles: handles.slice(0, 4) });
  await proxy.call('POST', '/v1/groups/billing/topics/orders/dead-letter', { handles: handles.slice(4, 6) });
  await proxy.call('POST', '/v1/topics', { name: 'numbers', queues: 1 });
  await proxy.call('POST', '/v1/topics/numbers/messages', { text: '{"id":9007199254740993, "b":1.0,"a":[],"a":[{"c\\"}":-1e400}, null]}' });
  await proxy.call('POST', '/v1/topics', { name: 'rooms', type: 'lite' });
  await proxy.call('POST', '/v1/topics/rooms/messages', { text: 'hello', lite_topic: 'room-1' });
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await proxy?.stop();
});

const ROUTES = [
  ['overview', '/', ['orders', 'billing', 'Disk']],
  ['topics', '/topics', ['orders', 'invoices', 'fifo']],
  ['topic', '/topics/orders', ['Queues', 'Settings', 'Permission']],
  ['groups', '/groups', ['billing']],
  ['group', '/groups/billing', ['Progress', 'In flight', 'Lag']],
  ['messages', '/messages/orders', ['order-59', 'newest']],
  ['message', '/messages/orders/broker-a/0/0', ['Body', 'shop', 'north']],
  ['dead-letters', '/dead-letters', ['billing']],
  ['dead-letters-of', '/dead-letters/billing', ['orders', 'Send again']],
  ['clients', '/clients', ['No client']],
  ['users', '/users', ['There is no access control']],
  ['lite-topics', '/topics/rooms', ['room-1']],
  ['quotas', '/quotas', ['guests', '1 requests/s']],
];

for (const [viewport, size] of [[WIDE, 'wide'], [NARROW, 'narrow']]) {
  for (const colorScheme of ['light', 'dark']) {
    test(`every view is shown, ${size} and ${colorScheme}`, async () => {
      const page = await open(browser, proxy, { viewport, colorScheme });
      await settled(page);
      for (const [name, route, expected] of ROUTES) {
        await visit(page, route);
        for (const part of expected) await page.getByText(part).first().waitFor();
        await check(page, `${name}-${size}-${colorScheme}`);
      }
      await page.context().close();
    });
  }
}

test('a topic is created, changed and deleted', async () => {
  const page = await open(browser, proxy);
  await page.getByRole('link', { name: 'Topics' }).click();
  await page.getByRole('button', { name: 'New topic' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('Name').fill('orders');
  await dialog.getByRole('button', { name: 'Create' }).click();
  await dialog.getByRole('alert').getByText('already').waitFor();
  await check(page, 'dialog');
  await dialog.getByLabel('Name').fill('returns');
  await dialog.getByLabel('Queues').fill('3');
  await dialog.getByLabel('Keep messages for').fill('2d');
  await dialog.getByRole('button', { name: 'Create' }).click();
  await page.getByRole('heading', { level: 1, name: 'returns' }).waitFor();
  await page.getByRole('button', { name: 'Change' }).click();
  await dialog.getByLabel('Keep messages for').fill('');
  await dialog.getByLabel('Clients may').selectOption('r');
  await dialog.getByRole('button', { name: 'Save' }).click();
  await page.getByText('The settings were changed.').waitFor();
  const { retention, perm, write_queues: queues } = await proxy.call('GET', '/v1/topics/returns');
  assert.deepEqual({ retention, perm, queues }, { retention: undefined, perm: 'r', queues: 3 });
  await page.getByRole('button', { name: 'Delete' }).click();
  await dialog.getByRole('textbox').fill('orders');
  await dialog.getByRole('button', { name: 'Delete' }).click();
  await dialog.getByRole('alert').waitFor();
  await dialog.getByRole('textbox').fill('returns');
  await dialog.getByRole('button', { name: 'Delete' }).click();
  await page.getByRole('heading', { level: 1, name: 'Topics' }).waitFor();
  const { topics } = await proxy.call('GET', '/v1/topics');
  assert.ok(!topics.some(({ name }) => name === 'returns'));
  assert.deepEqual(page.wrong, []);
});

test('a topic keeps the type that can’t be chosen', async () => {
  await proxy.call('POST', '/v1/topics', { name: 'typeless', type: 'unspecified' });
  const page = await open(browser, proxy);
  await visit(page, '/topics/typeless');
  await page.getByRole('button', { name: 'Change' }).click();
  await page.getByRole('dialog').getByLabel('Clients may').selectOption('r');
  await page.getByRole('dialog').getByRole('button', { name: 'Save' }).click();
  await page.getByText('The settings were changed.').waitFor();
  const { type, perm } = await proxy.call('GET', '/v1/topics/typeless');
  assert.deepEqual({ type, perm }, { type: 'unspecified', perm: 'r' });
  assert.deepEqual(page.wrong, []);
});

test('a group is created, changed, moved and deleted', async () => {
  const page = await open(browser, proxy);
  await visit(page, '/groups');
  await page.getByRole('button', { name: 'New group' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('Name').fill('audit');
  await dialog.getByLabel('Delays between deliveries').fill('1s, 30s');
  await dialog.getByRole('button', { name: 'Create' }).click();
  await page.getByRole('heading', { level: 1, name: 'audit' }).waitFor();
  await page.getByRole('button', { name: 'Change' }).click();
  await dialog.getByLabel('Redeliveries').fill('3');
  await dialog.getByLabel('Delays between deliveries').fill('1m 30s to 2h by 1.5');
  await dialog.getByRole('button', { name: 'Save' }).click();
  await page.getByText('The settings were changed.').waitFor();
  const { retry, max_retries: retries } = await proxy.call('GET', '/v1/groups/audit');
  assert.deepEqual({ retry, retries }, { retry: { initial: '1m 30s', max: '2h', multiplier: 1.5 }, retries: 3 });
  await proxy.call('POST', '/v1/groups/audit/topics/orders/receive?max=1');
  await page.getByRole('button', { name: 'Refresh', exact: true }).click();
  await page.getByRole('button', { name: 'Reset offsets' }).click();
  await dialog.getByLabel('To', { exact: true }).selectOption('latest');
  await dialog.getByRole('button', { name: 'Move' }).click();
  await page.getByText('The group was moved.').waitFor();
  const { topics: [{ queues }] } = await proxy.call('GET', '/v1/groups/audit/stats');
  assert.ok(queues.every(({ lag }) => lag === 0));
  await page.getByRole('button', { name: 'Delete' }).click();
  await dialog.getByRole('textbox').fill('audit');
  await dialog.getByRole('button', { name: 'Delete' }).click();
  await page.getByRole('heading', { level: 1, name: 'Groups' }).waitFor();
  assert.deepEqual(page.wrong, []);
});

test('messages are found and looked at', async () => {
  const page = await open(browser, proxy);
  await visit(page, '/messages');
  await page.getByLabel('Topic', { exact: true }).fill('orders');
  await page.getByLabel('Key').fill('order-7');
  await page.getByRole('button', { name: 'Search' }).click();
  await page.getByText('1 found among').waitFor();
  await page.locator('tbody a').click();
  await page.getByRole('button', { name: 'JSON', pressed: true }).waitFor();
  assert.match(await text(page), /"order": 7,\n/);
  await page.getByRole('button', { name: 'Bytes' }).click();
  assert.match(await text(page), /000000 {2}7b 22 6f/);
  await visit(page, '/messages/orders?key=bytes');
  await page.getByText('00 01 02 ff').waitFor();
  await visit(page, '/messages/nothing');
  await page.getByRole('alert').waitFor();
  assert.deepEqual(page.wrong, []);
});

test('JSON is shown with what was sent', async () => {
  const page = await open(browser, proxy);
  await visit(page, '/messages/numbers/broker-a/0/0');
  const lines = ['{', '  "id": 9007199254740993,', '  "b": 1.0,', '  "a": [],', '  "a": [', '    {', '      "c\\"}": -1e400', '    },', '    null', '  ]', '}'];
  assert.equal(await page.getByRole('region', { name: 'Body' }).innerText(), lines.join('\n'));
  assert.deepEqual(page.wrong, []);
});

test('messages of a lite topic are looked at', async () => {
  const page = await open(browser, proxy);
  await visit(page, '/topics/rooms');
  await page.getByRole('row', { name: /room-1/ }).getByRole('link').click();
  await page.getByText('hello').waitFor();
  await page.locator('tbody a').click();
  await page.getByRole('button', { name: 'Text', pressed: true }).waitFor();
  assert.match(await text(page), /room-1/);
  await page.getByRole('table', { name: 'Steps' }).getByRole('row', { name: /sent/ }).waitFor();
  await check(page, 'trace');
  assert.deepEqual(page.wrong, []);
});

test('a search can be repeated by its address, and refreshed', async () => {
  const page = await open(browser, proxy);
  await visit(page, '/messages');
  await page.getByLabel('Topic', { exact: true }).fill('orders');
  await page.getByLabel('Key').fill('order-9');
  await page.getByLabel('Stored from').fill('2026-01-01T00:00:00');
  await page.getByRole('button', { name: 'Search' }).click();
  await page.getByText('1 found among').waitFor();
  await page.reload();
  await page.getByText('1 found among').waitFor();
  assert.equal(await page.getByLabel('Stored from').inputValue(), '2026-01-01T00:00');
  await page.getByLabel('Stored until').fill('2100-01-01T00:00:00');
  const whole = page.waitForRequest((request) => request.url().includes('00.999Z'));
  await page.getByRole('button', { name: 'Search' }).click();
  await whole;
  await page.getByText('1 found among').waitFor();
  assert.deepEqual(page.wrong, []);
});

test('dead letters are sent again', async () => {
  const page = await open(browser, proxy);
  await visit(page, '/dead-letters/billing');
  await page.locator('tbody').getByRole('button', { name: /Send again:/ }).first().click();
  await page.getByRole('dialog').getByRole('button', { name: 'Send again' }).click();
  await page.getByText('1 sent again').waitFor();
  await page.getByRole('button', { name: 'Send again', exact: true }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Send again' }).click();
  await page.getByText('1 sent again; there are no others').waitFor();
  const { queues } = await proxy.call('GET', '/v1/topics/orders/stats');
  assert.equal(queues.reduce((sum, queue) => sum + queue.next_offset, 0), 61 + 2, 'each of the two was sent once');
  assert.deepEqual(page.wrong, []);
});

test('dead letters that can’t be sent again are listed', async () => {
  for (const name of ['kept', 'gone']) {
    await proxy.call('POST', '/v1/topics', { name, queues: 1 });
    await proxy.call('POST', `/v1/topics/${name}/messages`, { text: 'a letter' });
    const { messages: [{ handle }] } = await proxy.call('POST', `/v1/groups/failing/topics/${name}/receive?max=1`);
    await proxy.call('POST', `/v1/groups/failing/topics/${name}/dead-letter`, { handles: [handle] });
  }
  await proxy.call('DELETE', '/v1/topics/gone');
  const page = await open(browser, proxy);
  await visit(page, '/dead-letters/failing');
  await page.getByRole('button', { name: 'Send again', exact: true }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Send again' }).click();
  await page.getByText('1 sent again, 1 failed: topic gone does not exist').waitFor();
  await page.getByRole('region', { name: 'Not sent again' }).getByRole('listitem').waitFor();
  await check(page, 'not-sent-again');
});

test('a quota is set and removed', async () => {
  const page = await open(browser, proxy);
  await visit(page, '/quotas');
  await page.getByRole('button', { name: 'New quota' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('Name').fill('slow');
  await dialog.getByRole('button', { name: 'Set' }).click();
  await dialog.getByRole('alert').waitFor();
  await dialog.getByLabel('Sent messages per second').fill('100');
  await dialog.getByRole('button', { name: 'Set' }).click();
  await page.getByText('100 sent/s').waitFor();
  await page.getByRole('button', { name: 'Change slow' }).click();
  assert.ok(!await dialog.getByLabel('Name').isEditable(), 'another name would be another quota');
  await dialog.getByRole('button', { name: 'Cancel' }).click();
  await page.getByRole('button', { name: 'Remove slow' }).click();
  await dialog.getByRole('button', { name: 'Remove' }).click();
  await page.getByText('100 sent/s').waitFor({ state: 'detached' });
  assert.deepEqual(page.wrong, []);
});

test('the keyboard is enough', async () => {
  const page = await open(browser, proxy);
  await settled(page);
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'main');
  await visit(page, '/topics');
  assert.equal(await page.evaluate(() => document.activeElement.tagName), 'H1');
  await page.getByRole('button', { name: 'Messages' }).focus();
  await page.keyboard.press('Enter');
  await page.locator('th[aria-sort=descending]').waitFor();
  await page.getByRole('link', { name: 'orders', exact: true }).focus();
  // Fresh numbers leave the focus where it is.
  await page.evaluate(() => document.querySelector('#tools button').click());
  await settled(page);
  assert.equal(await page.evaluate(() => document.activeElement.textContent), 'orders');
  assert.deepEqual(page.wrong, []);
});
