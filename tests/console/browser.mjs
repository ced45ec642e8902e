// A proxy with a console, and a browser in front of it. `cargo x console` runs the tests.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const { ROCKETMQ_THIN_PROXY: program, CONSOLE_PACKAGES: packages, CHROMIUM: executablePath, SCREENSHOTS: screenshots } = process.env;
const require = createRequire(join(packages, 'package.json'));
const { chromium } = require('playwright-core');
const axe = require('axe-core');

const CHROMIUM = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
];
// How long it waits for what is sure to come, on a machine that does other things, too.
const TIMEOUT_MS = 120_000;
export const WIDE = { width: 1280, height: 900 };
export const NARROW = { width: 390, height: 844 };

// Runs the program to its end, and returns what it has printed.
export async function run(...args) {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let printed = '';
  child.stdout.on('data', (data) => {
    printed += data;
  });
  const [code] = await once(child, 'close');
  assert.equal(code, 0, `${args.join(' ')}: ${printed}`);
  return printed;
}

// A proxy in a folder of its own, with further settings.
export class Proxy {
  static async start(settings = '') {
    const proxy = new Proxy();
    proxy.folder = await mkdtemp(join(tmpdir(), 'console-'));
    const file = join(proxy.folder, 'proxy.toml');
    await writeFile(file, settings);
    const args = ['--config', file, '--listen', '127.0.0.1:0', '--data-dir', join(proxy.folder, 'data'), '--http', 'true', '--console', 'true'];
    proxy.child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    // The secret of the first user of a new catalog is told there, once.
    proxy.firstSecret = new Promise((resolve) => {
      createInterface({ input: proxy.child.stderr }).on('line', (line) => {
        const told = /secret key (\S+)/.exec(line);
        if (told) resolve(told[1]);
        else console.error(line);
      });
    });
    const lines = createInterface({ input: proxy.child.stdout });
    const [first] = await once(lines, 'line');
    lines.on('line', () => {});
    proxy.url = first.replace('listening on ', 'http://');
    return proxy;
  }

  // Carries out a request of the administration, or sends a message.
  async call(method, path, body, authorization) {
    const headers = { 'content-type': 'application/json', ...(authorization && { authorization }) };
    const response = await fetch(this.url + path, { method, headers, body: body && JSON.stringify(body) });
    const text = await response.text();
    assert.ok(response.ok, `${method} ${path}: ${response.status} ${text}`);
    return text === '' ? null : JSON.parse(text);
  }

  async stop() {
    this.child.kill('SIGKILL');
    await once(this.child, 'close');
    await rm(this.folder, { recursive: true });
  }
}

export function launch() {
  return chromium.launch({ executablePath, args: CHROMIUM });
}

// A tab that remembers whatever went wrong in it: errors, blocked contents, and requests that leave the proxy.
export async function open(browser, proxy, { viewport = WIDE, colorScheme = 'light' } = {}) {
  const context = await browser.newContext({ viewport, colorScheme, reducedMotion: 'reduce' });
  context.setDefaultTimeout(TIMEOUT_MS);
  const page = await context.newPage();
  page.wrong = [];
  page.on('pageerror', (error) => page.wrong.push(error.stack));
  page.on('dialog', (dialog) => {
    page.wrong.push(`a dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on('request', (request) => {
    if (!request.url().startsWith(`${proxy.url}/`)) page.wrong.push(`a request to ${request.url()}`);
  });
  page.on('console', (message) => {
    // Refusals of the API are shown by the page. The browser logs them, too.
    if (message.type() === 'error' && !message.text().startsWith('Failed to load resource')) page.wrong.push(message.text());
  });
  await prepare(page);
  await page.goto(`${proxy.url}/console/`);
  await page.locator('main h1').waitFor();
  return page;
}

// Lets a developer try files that are not yet in the program.
async function prepare(page) {
  const assets = process.env.CONSOLE_ASSETS;
  if (!assets) return;
  const types = { js: 'text/javascript', css: 'text/css', svg: 'image/svg+xml', html: 'text/html' };
  await page.route('**/console/**', async (route) => {
    const name = new URL(route.request().url()).pathname.replace('/console/', '') || 'index.html';
    const headers = (await route.fetch()).headers();
    await route.fulfill({ path: join(assets, name), headers: { ...headers, 'content-type': types[name.split('.').pop()] } });
  });
}

// Goes to a view, and waits until it has loaded.
export async function visit(page, route) {
  // The console draws the view when the browser tells it of the new address, which is later than the change.
  await page.evaluate((hash) => new Promise((resolve) => {
    const before = location.hash;
    addEventListener('hashchange', resolve, { once: true });
    location.hash = hash;
    if (location.hash === before) resolve();
  }), route);
  await settled(page);
}

export async function signIn(page, user, secret) {
  await tryToSignIn(page, user, secret);
  await page.getByRole('button', { name: 'Sign out' }).waitFor();
  await settled(page);
}

export async function tryToSignIn(page, user, secret) {
  await page.getByLabel('Access key').fill(user);
  await page.getByLabel('Secret key', { exact: true }).fill(secret);
  await page.getByRole('button', { name: 'Sign in' }).click();
}

export async function settled(page) {
  await page.locator('main h1').waitFor();
  await page.waitForFunction(() => !document.querySelector('[aria-busy]') && !document.body.textContent.includes('Loading…'));
}

// Checks that nothing went wrong, and that assistive technology can use what is shown.
export async function check(page, name) {
  assert.deepEqual(page.wrong, []);
  if (screenshots) await page.screenshot({ path: join(screenshots, `${name}.png`), fullPage: true });
  await page.evaluate(axe.source);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  const found = violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map((node) => `${node.html} ${node.failureSummary}`).join('\n  ')}`);
  assert.deepEqual(found, [], `${name}: accessibility`);
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.equal(overflow, 0, `${name} is wider than the window`);
}

export async function text(page) {
  return page.locator('main').innerText();
}
