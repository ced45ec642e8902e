// The frame of the console: which view is shown, its refreshing, and who is signed in.

import { Problem, get, signOut, user } from './api.js';
import { button, h, link, problem, replace } from './dom.js';
import { clients } from './views/clients.js';
import { deadLetters } from './views/dead-letters.js';
import { group } from './views/group.js';
import { groups } from './views/groups.js';
import { message } from './views/message.js';
import { messages } from './views/messages.js';
import { overview } from './views/overview.js';
import { quotas } from './views/quotas.js';
import { signInForm } from './views/sign-in.js';
import { topic } from './views/topic.js';
import { topics } from './views/topics.js';
import { users } from './views/users.js';

// The segments of an address, with `:` before those that name something, and the view that is there. `of` is its entry in
// the navigation.
const VIEWS = [
  { at: [], show: overview, of: 'Overview' },
  { at: ['topics'], show: topics, of: 'Topics' },
  { at: ['topics', ':topic'], show: topic, of: 'Topics' },
  { at: ['groups'], show: groups, of: 'Groups' },
  { at: ['groups', ':group'], show: group, of: 'Groups' },
  { at: ['messages'], show: messages, of: 'Messages' },
  { at: ['messages', ':topic'], show: messages, of: 'Messages' },
  { at: ['messages', ':topic', ':broker', ':queue', ':offset'], show: message, of: 'Messages' },
  { at: ['dead-letters'], show: deadLetters, of: 'Dead letters' },
  { at: ['dead-letters', ':group'], show: deadLetters, of: 'Dead letters' },
  { at: ['clients'], show: clients, of: 'Clients' },
  { at: ['users'], show: users, of: 'Users' },
  { at: ['quotas'], show: quotas, of: 'Quotas' },
];
const NAVIGATION = VIEWS.filter(({ at }, index) => VIEWS.findIndex((view) => view.of === VIEWS[index].of) === index && at.length < 2);
const PAUSES = [['0', 'by hand'], ['5', 'every 5 s'], ['15', 'every 15 s'], ['60', 'every minute']];
const NOTICE_MS = 6_000;

const main = document.getElementById('main');
const navigation = document.getElementById('nav');
const tools = document.getElementById('tools');
const notice = document.getElementById('notice');

let shown = null;
let pause = 15;
let lastRefresh = Date.now();
// Refreshes that are under way.
let refreshing = 0;
let noticeTimer;

// What a view may ask of the frame.
function page(controller) {
  return {
    // Aborted when another view is shown.
    signal: controller.signal,
    go: (route) => {
      location.hash = route;
    },
    tell(text) {
      clearTimeout(noticeTimer);
      notice.textContent = text;
      noticeTimer = setTimeout(() => {
        notice.textContent = '';
      }, NOTICE_MS);
    },
  };
}

function find(hash) {
  const [before, after = ''] = hash.replace(/^#\/?/, '').split('?');
  let segments;
  try {
    segments = before.split('/').filter((segment) => segment !== '').map(decodeURIComponent);
  } catch {
    return null;
  }
  for (const view of VIEWS) {
    if (view.at.length !== segments.length) continue;
    if (!view.at.every((part, index) => part.startsWith(':') || part === segments[index])) continue;
    const names = view.at.map((part, index) => [part.slice(1), segments[index]]).filter((_, index) => view.at[index].startsWith(':'));
    return { view, params: { ...Object.fromEntries(new URLSearchParams(after)), ...Object.fromEntries(names) } };
  }
  return null;
}

async function show({ moveFocus }) {
  shown?.controller.abort();
  document.querySelector('dialog[open]')?.close();
  const found = find(location.hash);
  const controller = new AbortController();
  drawNavigation(found?.view.of);
  if (!found) {
    shown = { controller };
    replace(main, h('h1', { tabindex: '-1' }, 'There is no such page'), h('p', {}, link('/', 'Overview')));
    return;
  }
  const view = found.view.show(page(controller), found.params);
  shown = { controller, view };
  document.title = `${view.title} – RocketMQ console`;
  const heading = h('h1', { tabindex: '-1' }, view.title);
  const crumbs = view.parent && h('p', { class: 'crumbs' }, link(view.parent[0], view.parent[1]), ' /');
  const head = h('div', { class: 'view-head' }, h('div', {}, crumbs, heading), h('div', { class: 'actions' }, view.actions ?? []));
  replace(main, head, view.content);
  if (moveFocus) {
    heading.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
  await refresh();
}

// Loads the data of the view again. `automatic` says that nobody has asked for it now.
async function refresh({ automatic = false } = {}) {
  lastRefresh = Date.now();
  refreshing += 1;
  try {
    await shown?.view?.refresh?.({ automatic });
  } finally {
    refreshing -= 1;
  }
}

function drawNavigation(current) {
  const entry = ({ at, of }) => h('li', {}, link(`/${at.join('/')}`, of, { 'aria-current': of === current && 'page' }));
  replace(navigation, h('ul', {}, NAVIGATION.map(entry)));
  navigation.querySelector('[aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'center' });
}

function drawTools(signedIn) {
  const choose = h('select', { id: 'pause', onchange: () => {
    pause = Number(choose.value);
  } }, PAUSES.map(([seconds, text]) => h('option', { value: seconds, selected: Number(seconds) === pause }, text)));
  replace(
    tools,
    h('label', { for: 'pause' }, h('span', {}, 'Refresh'), choose),
    button('Refresh', () => refresh()),
    signedIn && h('span', { class: 'who', title: user() }, user()),
    signedIn && button('Sign out', () => {
      signOut();
      start();
    }),
  );
}

function askToSignIn(failure) {
  shown?.controller.abort();
  shown = null;
  replace(navigation);
  replace(tools);
  document.title = 'Sign in – RocketMQ console';
  const form = signInForm({ failure, done: start });
  replace(main, form.element);
  form.focus();
}

// Finds out whether this address needs users, and whether the one who is signed in is known.
async function start() {
  try {
    await get('/v1/clients', { query: { group: '-' } });
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    if (error.status === 401) return askToSignIn(user() === null ? null : error);
    // Whoever may not list clients may perhaps see other things.
    if (error.status !== 403) {
      drawTools(false);
      replace(main, problem(error), h('p', {}, button('Try again', start)));
      return undefined;
    }
  }
  drawTools(user() !== null);
  return show({ moveFocus: false });
}

addEventListener('hashchange', () => {
  if (navigation.childElementCount > 0) show({ moveFocus: true });
});
// The address has the view in it, so that this link can't be an ordinary one.
document.getElementById('skip').addEventListener('click', (event) => {
  event.preventDefault();
  main.focus();
});
setInterval(() => {
  const due = pause > 0 && refreshing === 0 && Date.now() - lastRefresh >= pause * 1000;
  if (due && !document.hidden && !document.querySelector('dialog[open]')) refresh({ automatic: true });
}, 1000);
start();
