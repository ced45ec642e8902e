// Signing in, and what users without rights see.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { NARROW, Proxy, check, launch, open, run, signIn, text, tryToSignIn, visit } from './browser.mjs';

let folder;
let proxy;
let browser;
const secrets = {};

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'console-access-'));
  const file = join(folder, 'access.toml');
  const command = (...args) => run(...args, '--json', '--access-file', file);
  for (const user of ['ops', 'reader', 'shop']) {
    secrets[user] = JSON.parse(await command('user', 'add', user, ...(user === 'ops' ? ['--super'] : []))).secret;
  }
  await command('acl', 'add', 'reader', 'Cluster:*', 'list');
  await command('acl', 'add', 'shop', 'Topic:*', 'pub');
  proxy = await Proxy.start(`[access]\nfile = ${JSON.stringify(file)}\n`);
  const ops = `Basic ${btoa(`ops:${secrets.ops}`)}`;
  await proxy.call('POST', '/v1/topics', { name: 'orders' }, ops);
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await proxy?.stop();
  await rm(folder, { recursive: true });
});

test('a user signs in, stays signed in in this tab, and signs out', async () => {
  const page = await open(browser, proxy);
  await page.getByRole('heading', { name: 'Sign in' }).waitFor();
  await check(page, 'sign-in-light');
  await tryToSignIn(page, 'ops', 'guess');
  await page.getByRole('alert').waitFor();
  await check(page, 'sign-in-refused');
  await signIn(page, 'ops', secrets.ops);
  await visit(page, '/topics');
  await page.getByText('orders').waitFor();
  await page.reload();
  await page.getByText('orders').waitFor();
  await visit(page, '/users');
  await page.getByRole('row', { name: /shop 2 Topic:\* pub/i }).waitFor();
  await page.getByText('Users and policies are in a file.').waitFor();
  assert.equal(await page.getByRole('button', { name: 'New user' }).count(), 0);
  await check(page, 'users');
  assert.deepEqual(await page.context().cookies(), []);
  assert.equal(await page.evaluate(() => localStorage.length), 0);
  const other = await page.context().newPage();
  await other.goto(`${proxy.url}/console/`);
  await other.getByRole('heading', { name: 'Sign in' }).waitFor();
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByRole('heading', { name: 'Sign in' }).waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  assert.deepEqual(page.wrong, []);
});

test('a secret is not sent in clear without a confirmation', async () => {
  const page = await open(browser, proxy);
  await page.addInitScript(() => Object.defineProperty(globalThis, 'isSecureContext', { value: false }));
  await page.reload();
  await page.getByText('is not encrypted').waitFor();
  await check(page, 'sign-in-in-clear');
  const sent = [];
  page.on('request', (request) => sent.push(request.headers().authorization));
  await tryToSignIn(page, 'ops', secrets.ops);
  assert.ok(await page.getByLabel('Send the secret key all the same').evaluate((box) => !box.validity.valid));
  assert.deepEqual(sent, []);
  await page.getByLabel('Send the secret key all the same').check();
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('heading', { name: 'Overview' }).waitFor();
  assert.deepEqual(page.wrong, []);
});

test('users see why they may not see more', async () => {
  const page = await open(browser, proxy, { viewport: NARROW, colorScheme: 'dark' });
  await check(page, 'sign-in-dark');
  await signIn(page, 'reader', secrets.reader);
  await visit(page, '/topics/orders');
  assert.match(await text(page), /fifo|normal/);
  await page.getByRole('alert').first().waitFor();
  await check(page, 'reader');
  await visit(page, '/topics');
  await page.getByRole('button', { name: 'New topic' }).click();
  await page.getByRole('dialog').getByLabel('Name').fill('more');
  await page.getByRole('dialog').getByRole('button', { name: 'Create' }).click();
  await page.getByRole('dialog').getByRole('alert').waitFor();
  await page.getByRole('dialog').getByRole('button', { name: 'Cancel' }).click();
  await page.getByRole('button', { name: 'Sign out' }).click();

  await signIn(page, 'shop', secrets.shop);
  await page.getByRole('alert').first().waitFor();
  await check(page, 'without-rights');
});
