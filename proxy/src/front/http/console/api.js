// Calls the administration of the proxy that has served this page.
//
// The credentials go into the Authorization header of each request and are kept for this tab alone. There are no cookies,
// so that no other page can make the browser send them.

const STORED = 'rocketmq-console-credentials';
const TIMEOUT_MS = 30_000;

let credentials = restored();
// By how much the clock of the proxy is ahead of ours.
let clockOffset = 0;

function restored() {
  try {
    return JSON.parse(sessionStorage.getItem(STORED));
  } catch {
    return null;
  }
}

// A refusal, or no answer at all. `message` is what the proxy says of it.
export class Problem extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function user() {
  return credentials?.user ?? null;
}

export function signIn(user, secret) {
  const bytes = new TextEncoder().encode(`${user}:${secret}`);
  const authorization = `Basic ${btoa(String.fromCharCode(...bytes))}`;
  credentials = { user, authorization };
}

// Keeps the credentials when the page is loaded again in this tab.
export function keepSignIn() {
  try {
    sessionStorage.setItem(STORED, JSON.stringify(credentials));
  } catch {
    // The browser keeps nothing. They last until the page is left.
  }
}

export function signOut() {
  credentials = null;
  try {
    sessionStorage.removeItem(STORED);
  } catch {
    // There was nothing.
  }
}

// The time at the proxy, in milliseconds since 1970.
export function now() {
  return Date.now() + clockOffset;
}

// A path, with each value as one segment of it.
export function path(texts, ...values) {
  return texts.reduce((joined, text, index) => joined + segment(String(values[index - 1])) + text);
}

function segment(name) {
  // A browser would leave these out of the address.
  if (/^\.{0,2}$/.test(name)) throw new Problem(400, `"${name}" can't be the name of anything.`);
  return encodeURIComponent(name);
}

// Carries out one request. The answer is an object, or null if it has no content.
export async function call(method, path, { query = {}, body, signal } = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== '');
  const search = given.length > 0 ? `?${new URLSearchParams(given)}` : '';
  const headers = { accept: 'application/json' };
  if (credentials) headers.authorization = credentials.authorization;
  if (body !== undefined) headers['content-type'] = 'application/json';
  const timeout = AbortSignal.timeout(TIMEOUT_MS);
  let response;
  let text;
  try {
    response = await fetch(path + search, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      // Neither cookies nor the browser's own dialog for passwords.
      credentials: 'omit',
      cache: 'no-store',
      redirect: 'error',
      signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
    });
    text = await response.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    const waited = error.name === 'TimeoutError';
    throw new Problem(0, waited ? 'The proxy did not answer in time.' : 'The proxy can’t be reached.');
  }
  const date = Date.parse(response.headers.get('date'));
  if (!Number.isNaN(date)) clockOffset = date - Date.now();
  const answer = parse(text);
  if (response.ok && answer === undefined) throw new Problem(response.status, 'The answer is not JSON. Is this address that of the proxy?');
  if (!response.ok) throw new Problem(response.status, answer?.detail ?? `The proxy answered ${response.status}.`);
  return answer;
}

export const get = (path, options) => call('GET', path, options);

function parse(text) {
  try {
    return text === '' ? null : JSON.parse(text);
  } catch {
    return undefined;
  }
}

// The lines of a list that comes in parts, and whether there are more than `parts` of them.
export async function pages(path, field, { signal, parts = 4 } = {}) {
  const lines = [];
  let after;
  for (let part = 0; part < parts; part += 1) {
    const answer = await get(path, { query: { after }, signal });
    lines.push(...answer[field]);
    after = answer.next;
    if (after === undefined) return { lines, truncated: false };
  }
  return { lines, truncated: true };
}
