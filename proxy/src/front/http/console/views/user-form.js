// Adding and changing users and policies, and asking what a user may do.

import { call, get, keepSignIn, path, signIn, user as me } from '../api.js';
import { ask, confirm, inform } from '../dialog.js';
import { facts, h } from '../dom.js';

const TYPES = [['normal', 'what policies allow'], ['super', 'everything']];
const EFFECTS = [['allow', 'allow'], ['deny', 'deny']];
const ACTIONS = ['pub', 'sub', 'all', 'create', 'update', 'delete', 'get', 'list'].map((action) => [action, action]);
const CERTIFICATES = { name: 'certificates', label: 'Names in certificates', placeholder: 'none', hint: 'with semicolons between them' };
const RESOURCE = { name: 'resource', label: 'Resource', required: true, placeholder: 'Topic:orders' };
const SECRET = { name: 'secret', label: 'Secret key', type: 'secret', autocomplete: 'new-password', hint: 'empty: the proxy makes one' };

// Names in certificates may have commas.
const names = (text) => (text ?? '').split(';').map((name) => name.trim()).filter((name) => name !== '');
const words = (text) => (text ?? '').split(',').map((word) => word.trim()).filter((word) => word !== '');
const known = (users) => h('datalist', {}, users.map(({ name }) => h('option', { value: name })));
const whom = (users, value) => ({ name: 'user', label: 'User', required: true, value, list: known(users) });

// Shows a secret that the proxy has made.
function tellSecret({ name, secret }) {
  if (secret === undefined) return undefined;
  const content = [
    facts([['Access key', h('span', { class: 'name' }, name)], ['Secret key', h('span', { class: 'name secret' }, secret)]]),
    h('p', {}, 'Keep the secret key now: it is not shown again.'),
  ];
  return inform({ title: 'A new secret key', content });
}

// Asks, and tells the secret that `make` has brought, also if the dialog was closed meanwhile: the old one is gone.
async function askForSecret(question, make) {
  let made;
  const carryOut = async (values, closed) => {
    made = await make(values);
    if (closed.aborted) await tellSecret(made);
  };
  const done = await ask({ ...question, carryOut });
  if (done) await tellSecret(made);
  return done;
}

// Resolves to whether a user was added.
export function addUser() {
  const question = {
    title: 'New user',
    text: 'Clients sign in with the name as access key.',
    specs: [{ name: 'name', label: 'Name', required: true }, { name: 'type', label: 'May do', type: 'select', options: TYPES }, CERTIFICATES, SECRET],
    action: 'Add',
  };
  return askForSecret(question, (values) => {
    const body = { ...values, certificates: names(values.certificates), secret: values.secret || undefined };
    return call('POST', '/v1/users', { body });
  });
}

// What was not changed here is not sent: others may have changed it meanwhile.
export function changeUser(user) {
  const shown = { type: user.type, enabled: user.enabled, certificates: user.certificates.join('; ') || undefined };
  return ask({
    title: `User ${user.name}`,
    specs: [
      { name: 'type', label: 'May do', type: 'select', options: TYPES, value: user.type },
      { name: 'enabled', label: 'Enabled', type: 'check', value: user.enabled },
      { ...CERTIFICATES, value: shown.certificates },
    ],
    action: 'Save',
    carryOut: (values) => {
      const body = Object.fromEntries(Object.entries(values).filter(([name, value]) => value !== shown[name]));
      if ('certificates' in body) body.certificates = names(body.certificates);
      return call('PATCH', path`/v1/users/${user.name}`, { body });
    },
  });
}

export function renewSecret(user) {
  const question = {
    title: `A new secret key for ${user.name}?`,
    text: 'The old one is refused at once, and what it has opened ends.',
    specs: [SECRET],
    action: 'Renew',
  };
  return askForSecret(question, async (values) => {
    const secret = values.secret || undefined;
    const renewed = await call('POST', path`/v1/users/${user.name}/secret`, { body: { secret } });
    if (user.name === me()) {
      signIn(user.name, secret ?? renewed.secret);
      keepSignIn();
    }
    return renewed;
  });
}

export function removeUser({ name }) {
  return confirm({
    title: 'Delete the user?',
    text: 'The user and their policies are deleted, and what they have opened ends.',
    action: 'Delete',
    name,
    carryOut: () => call('DELETE', path`/v1/users/${name}`),
  });
}

export function addPolicy(users) {
  return ask({
    title: 'New policy',
    text: 'The most specific policy decides, a denial among equals. What no policy allows is denied.',
    specs: [
      whom(users),
      { ...RESOURCE, hint: 'Topic:NAME, Group:NAME or Cluster:*, where NAME may end with *; or * for everything' },
      { name: 'actions', label: 'Actions', required: true, placeholder: 'pub, sub', hint: 'all, pub, sub; administration: create, update, delete, get, list' },
      { name: 'effect', label: 'Effect', type: 'select', options: EFFECTS },
      { name: 'from', label: 'Only from these networks', placeholder: 'everywhere', hint: 'such as 10.0.0.0/8, with commas between them' },
    ],
    action: 'Add',
    carryOut: (values) => call('POST', '/v1/policies', { body: { ...values, actions: words(values.actions.toLowerCase()), from: words(values.from) } }),
  });
}

export function removePolicy({ number, user, resource }) {
  return confirm({
    title: 'Remove the policy?',
    text: `The policy of ${user} for ${resource} is removed.`,
    action: 'Remove',
    carryOut: () => call('DELETE', path`/v1/policies/${number}`),
  });
}

// Asks which policy decides, and tells it.
export async function explain(users) {
  let asked;
  let verdict;
  const done = await ask({
    title: 'May a user do this?',
    specs: [
      whom(users),
      { ...RESOURCE, hint: 'Topic:NAME, Group:NAME or Cluster:*' },
      { name: 'action', label: 'Action', type: 'select', options: ACTIONS },
      { name: 'from', label: 'From the address', placeholder: 'unknown' },
    ],
    action: 'Ask',
    carryOut: async (values) => {
      asked = values;
      const { resource, action, from } = values;
      verdict = await get(path`/v1/users/${values.user}/access`, { query: { resource, action, from } });
    },
  });
  if (!done) return;
  const { allowed, why, policy } = verdict;
  const content = [
    h('p', {}, h('span', { class: allowed ? 'badge good' : 'badge bad' }, allowed ? 'allowed' : 'denied'), ` ${asked.user}: ${asked.action} on ${asked.resource}`),
    h('p', {}, why),
    policy && facts([
      ['Policy', policy.number], ['Resource', h('span', { class: 'name' }, policy.resource)], ['Actions', policy.actions.join(', ')],
      ['Effect', policy.effect], ['From', policy.from.join(', ') || 'everywhere'],
    ]),
  ];
  await inform({ title: 'What is decided', content });
}
