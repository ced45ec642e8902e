// Calls the administration API of the proxy that serves this page.
//
// The credentials are sent in the Authorization header of each request, and stored for this tab only. There are no cookies,
// which other pages could make the browser send.

const STORED = 'rocketmq-console-credentials';
const TIMEOUT_MS = 30_000;

let credentials = restoreCredentials();
// The proxy's clock minus the browser's clock, in milliseconds.
let clockOffset = 0;

function restoreCredentials() {
  try {
    return JSON.parse(sessionStorage.getItem(STORED));
  } catch {
    return null;
  }
}

// A failed request. `status` is the HTTP status, or 0 without an answer; `message` is the text to show.
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

// Stores the credentials, so that they survive a reload of this tab.
export function keepSignIn() {
  try {
    sessionStorage.setItem(STORED, JSON.stringify(credentials));
  } catch {
    // The browser does not allow storage. The credentials last until the page is closed.
  }
}

export function signOut() {
  credentials = null;
  try {
    sessionStorage.removeItem(STORED);
  } catch {
    // The browser does not allow storage.
  }
}

// The proxy's current time, in milliseconds since 1970.
export function now() {
  return Date.now() + clockOffset;
}

// A template tag for paths. Each value is encoded as one segment.
export function path(texts, ...values) {
  return texts.reduce((joined, text, index) => joined + segment(String(values[index - 1])) + text);
}

function segment(name) {
  // Browsers remove these segments from addresses.
  if (/^\.{0,2}$/.test(name)) throw new Problem(400, `"${name}" is not a valid name.`);
  return encodeURIComponent(name);
}

// Sends a request. Resolves to the JSON of the answer, or to null if it has no content.
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
      // No cookies, and no password dialog of the browser.
      credentials: 'omit',
      cache: 'no-store',
      redirect: 'error',
      signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
    });
    text = await response.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    const timedOut = error.name === 'TimeoutError';
    throw new Problem(0, timedOut ? 'The proxy did not answer in time.' : 'The proxy can’t be reached.');
  }
  const date = Date.parse(response.headers.get('date'));
  if (!Number.isNaN(date)) clockOffset = date - Date.now();
  const answer = parse(text);
  if (response.ok && answer === undefined) throw new Problem(response.status, 'The answer is not JSON. Check that this is the address of the proxy.');
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

// Fetches up to `limit` pages of a list. Resolves to its lines, and whether there are more pages.
export async function pages(path, field, { signal, limit = 4 } = {}) {
  const lines = [];
  let after;
  for (let page = 0; page < limit; page += 1) {
    const answer = await get(path, { query: { after }, signal });
    lines.push(...answer[field]);
    after = answer.next;
    if (after === undefined) return { lines, truncated: false };
  }
  return { lines, truncated: true };
}
