// Users and policies in the catalog, changed in the console.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { NARROW, Proxy, check, launch, open, settled, signIn, visit } from './browser.mjs';

let proxy;
let browser;
let secret;

before(async () => {
  proxy = await Proxy.start('[access]\ncatalog = true\n');
  secret = await proxy.firstSecret;
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await proxy?.stop();
});

const basic = (user, secret) => `Basic ${btoa(`${user}:${secret}`)}`;

async function status(method, path, authorization, body) {
  const headers = { authorization, 'content-type': 'application/json' };
  const response = await fetch(proxy.url + path, { method, headers, body: body && JSON.stringify(body) });
  return response.status;
}

test('users and policies are added, changed and removed', async () => {
  const page = await open(browser, proxy);
  await signIn(page, 'admin', secret);
  await visit(page, '/users');
  await page.getByRole('button', { name: 'New user' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('Name', { exact: true }).fill('admin');
  await dialog.getByRole('button', { name: 'Add' }).click();
  await dialog.getByRole('alert').getByText('user admin exists').waitFor();
  await dialog.getByLabel('Name', { exact: true }).fill('shop');
  await check(page, 'new-user');
  await dialog.getByRole('button', { name: 'Add' }).click();
  await dialog.getByText('it is not shown again').waitFor();
  await check(page, 'new-secret');
  const made = await dialog.locator('.secret').innerText();
  await dialog.getByRole('button', { name: 'Close' }).click();
  await page.getByRole('row', { name: /^shop what policies allow enabled 0/ }).waitFor();

  const send = (authorization) => status('POST', '/v1/topics/orders/messages', authorization, { text: 'a' });
  assert.equal(await send(basic('shop', made)), 403);
  await page.getByRole('button', { name: 'New policy' }).click();
  await dialog.getByLabel('User').fill('shop');
  await dialog.getByLabel('Resource').fill('Topic:ord*');
  await dialog.getByLabel('Actions').fill('pub, fly');
  await dialog.getByRole('button', { name: 'Add' }).click();
  await dialog.getByRole('alert').waitFor();
  await dialog.getByLabel('Actions').fill('pub');
  await check(page, 'new-policy');
  await dialog.getByRole('button', { name: 'Add' }).click();
  await page.getByRole('row', { name: /shop 1 Topic:ord\* pub allow everywhere/ }).waitFor();
  assert.equal(await send(basic('shop', made)), 200);

  await page.getByRole('button', { name: 'Ask what a user may do' }).click();
  await dialog.getByLabel('User').fill('shop');
  await dialog.getByLabel('Resource').fill('Topic:orders');
  await dialog.getByRole('button', { name: 'Ask' }).click();
  await dialog.getByText('this policy decides').waitFor();
  await dialog.getByText('allowed', { exact: true }).waitFor();
  await check(page, 'decision');
  await dialog.getByRole('button', { name: 'Close' }).click();
  await check(page, 'users-in-catalog');

  await page.getByRole('button', { name: 'Remove policy' }).click();
  await dialog.getByRole('button', { name: 'Remove' }).click();
  await page.getByText('There are no policies.').waitFor();
  assert.equal(await send(basic('shop', made)), 403);
  await page.getByRole('button', { name: 'Change shop' }).click();
  await dialog.getByLabel('Enabled').uncheck();
  await dialog.getByRole('button', { name: 'Save' }).click();
  await page.getByRole('row', { name: /^shop .* disabled/ }).waitFor();
  assert.equal(await send(basic('shop', made)), 401);
  await page.getByRole('button', { name: 'Delete shop' }).click();
  await dialog.getByLabel('to confirm').fill('shop');
  await dialog.getByRole('button', { name: 'Delete' }).click();
  await page.getByRole('row', { name: /^shop / }).waitFor({ state: 'detached' });
  assert.deepEqual(page.wrong, []);
});

test('the last super user stays, and stays signed in with a new secret', async () => {
  const page = await open(browser, proxy, { viewport: NARROW, colorScheme: 'dark' });
  await signIn(page, 'admin', secret);
  await visit(page, '/users');
  const dialog = page.getByRole('dialog');
  await page.getByRole('button', { name: 'Delete admin' }).click();
  await dialog.getByLabel('to confirm').fill('admin');
  await dialog.getByRole('button', { name: 'Delete' }).click();
  await dialog.getByRole('alert').getByText('admin is the last enabled super user').waitFor();
  await dialog.getByRole('button', { name: 'Cancel' }).click();
  await page.getByRole('button', { name: 'New secret for admin' }).click();
  await dialog.getByRole('button', { name: 'Renew' }).click();
  const renewed = await dialog.locator('.secret').innerText();
  await dialog.getByRole('button', { name: 'Close' }).click();
  await settled(page);
  assert.equal(await status('GET', '/v1/users', basic('admin', secret)), 401);
  assert.equal(await status('GET', '/v1/users', basic('admin', renewed)), 200);
  await page.reload();
  await page.getByRole('row', { name: /^admin everything enabled/ }).waitFor();
  await check(page, 'users-narrow');
});
