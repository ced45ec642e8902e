// The frame around the views: routing, navigation, refreshing and signing in.

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

// The routes: the segments of the path, where `:` marks parameters, the view, and its section in the navigation.
const VIEWS = [
  { path: [], show: overview, section: 'Overview' },
  { path: ['topics'], show: topics, section: 'Topics' },
  { path: ['topics', ':topic'], show: topic, section: 'Topics' },
  { path: ['groups'], show: groups, section: 'Groups' },
  { path: ['groups', ':group'], show: group, section: 'Groups' },
  { path: ['messages'], show: messages, section: 'Messages' },
  { path: ['messages', ':topic'], show: messages, section: 'Messages' },
  { path: ['messages', ':topic', ':broker', ':queue', ':offset'], show: message, section: 'Messages' },
  { path: ['dead-letters'], show: deadLetters, section: 'Dead letters' },
  { path: ['dead-letters', ':group'], show: deadLetters, section: 'Dead letters' },
  { path: ['clients'], show: clients, section: 'Clients' },
  { path: ['users'], show: users, section: 'Users' },
  { path: ['quotas'], show: quotas, section: 'Quotas' },
];
const NAVIGATION = VIEWS.filter(({ path }, index) => VIEWS.findIndex((view) => view.section === VIEWS[index].section) === index && path.length < 2);
const REFRESH_INTERVALS = [['0', 'manually'], ['5', 'every 5 s'], ['15', 'every 15 s'], ['60', 'every minute']];
const NOTICE_MS = 6_000;

const main = document.getElementById('main');
const navigation = document.getElementById('nav');
const tools = document.getElementById('tools');
const notice = document.getElementById('notice');

let shown = null;
let refreshSeconds = 15;
let lastRefresh = Date.now();
// The number of refreshes in progress.
let refreshing = 0;
let noticeTimer;

// The functions of the frame that a view may use.
function createPage(controller) {
  return {
    // Aborted when another view is shown, or the user signs out.
    signal: controller.signal,
    navigate: (route) => {
      location.hash = route;
    },
    notify(text) {
      clearTimeout(noticeTimer);
      notice.textContent = text;
      noticeTimer = setTimeout(() => {
        notice.textContent = '';
      }, NOTICE_MS);
    },
  };
}

// The view of a hash, with its parameters. Null if there is none.
function matchRoute(hash) {
  const [before, after = ''] = hash.replace(/^#\/?/, '').split('?');
  let segments;
  try {
    segments = before.split('/').filter((segment) => segment !== '').map(decodeURIComponent);
  } catch {
    return null;
  }
  for (const view of VIEWS) {
    if (view.path.length !== segments.length) continue;
    if (!view.path.every((part, index) => part.startsWith(':') || part === segments[index])) continue;
    const names = view.path.map((part, index) => [part.slice(1), segments[index]]).filter((_, index) => view.path[index].startsWith(':'));
    return { view, params: { ...Object.fromEntries(new URLSearchParams(after)), ...Object.fromEntries(names) } };
  }
  return null;
}

// Shows the view of the current address.
async function show({ moveFocus }) {
  shown?.controller.abort();
  document.querySelector('dialog[open]')?.close();
  const found = matchRoute(location.hash);
  const controller = new AbortController();
  drawNavigation(found?.view.section);
  if (!found) {
    shown = { controller };
    replace(main, h('h1', { tabindex: '-1' }, 'There is no such page'), h('p', {}, link('/', 'Overview')));
    return;
  }
  const view = found.view.show(createPage(controller), found.params);
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

// Reloads the data of the view. `automatic` distinguishes a periodic refresh from one that the user has requested.
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
  const entry = ({ path, section }) => h('li', {}, link(`/${path.join('/')}`, section, { 'aria-current': section === current && 'page' }));
  replace(navigation, h('ul', {}, NAVIGATION.map(entry)));
  navigation.querySelector('[aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'center' });
}

function drawTools(signedIn) {
  const intervalSelect = h('select', { id: 'pause', onchange: () => {
    refreshSeconds = Number(intervalSelect.value);
  } }, REFRESH_INTERVALS.map(([seconds, text]) => h('option', { value: seconds, selected: Number(seconds) === refreshSeconds }, text)));
  replace(
    tools,
    h('label', { for: 'pause' }, h('span', {}, 'Refresh'), intervalSelect),
    button('Refresh', () => refresh()),
    signedIn && h('span', { class: 'who', title: user() }, user()),
    signedIn && button('Sign out', () => {
      signOut();
      start();
    }),
  );
}

function showSignIn(failure) {
  shown?.controller.abort();
  shown = null;
  replace(navigation);
  replace(tools);
  document.title = 'Sign in – RocketMQ console';
  const form = signInForm({ failure, onSignIn: start });
  replace(main, form.element);
  form.focus();
}

// Checks whether access control is on and the credentials are accepted, and shows the view or the sign-in form.
async function start() {
  try {
    await get('/v1/clients', { query: { group: '-' } });
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    if (error.status === 401) return showSignIn(user() === null ? null : error);
    // A user who may not list clients may have other rights.
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
// The hash of the address is the route, so that this link can't use it to move the focus.
document.getElementById('skip').addEventListener('click', (event) => {
  event.preventDefault();
  main.focus();
});
setInterval(() => {
  const due = refreshSeconds > 0 && refreshing === 0 && Date.now() - lastRefresh >= refreshSeconds * 1000;
  if (due && !document.hidden && !document.querySelector('dialog[open]')) refresh({ automatic: true });
}, 1000);
start();
