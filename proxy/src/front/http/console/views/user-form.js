// The dialogs that add, change and remove users and policies, and that explain decisions.

import { call, get, keepSignIn, path, signIn, user as me } from '../api.js';
import { askValues, confirm, inform } from '../dialog.js';
import { definitionList, h } from '../dom.js';

const TYPES = [['normal', 'what policies allow'], ['super', 'everything']];
const EFFECTS = [['allow', 'allow'], ['deny', 'deny']];
const ACTIONS = ['pub', 'sub', 'all', 'create', 'update', 'delete', 'get', 'list'].map((action) => [action, action]);
const CERTIFICATES = { name: 'certificates', label: 'Names in certificates', placeholder: 'none', hint: 'separated by semicolons' };
const RESOURCE = { name: 'resource', label: 'Resource', required: true, placeholder: 'Topic:orders' };
const SECRET = { name: 'secret', label: 'Secret key', type: 'secret', autocomplete: 'new-password', hint: 'empty: the proxy generates one' };

// Names in certificates may contain commas.
const splitNames = (text) => (text ?? '').split(';').map((name) => name.trim()).filter((name) => name !== '');
const splitWords = (text) => (text ?? '').split(',').map((word) => word.trim()).filter((word) => word !== '');
const userOptions = (users) => h('datalist', {}, users.map(({ name }) => h('option', { value: name })));
const userField = (users, value) => ({ name: 'user', label: 'User', required: true, value, list: userOptions(users) });

// Shows a secret that the proxy has generated.
function showSecret({ name, secret }) {
  if (secret === undefined) return undefined;
  const content = [
    definitionList([['Access key', h('span', { class: 'name' }, name)], ['Secret key', h('span', { class: 'name secret' }, secret)]]),
    h('p', {}, 'Save the secret key now: it is not shown again.'),
  ];
  return inform({ title: 'A new secret key', content });
}

// Opens a dialog, and shows the secret that `request` returns, even if the dialog was closed meanwhile: the old secret is no longer
// valid.
async function askForSecret(dialog, request) {
  let result;
  const onSubmit = async (values, closed) => {
    result = await request(values);
    if (closed.aborted) await showSecret(result);
  };
  const done = await askValues({ ...dialog, onSubmit });
  if (done) await showSecret(result);
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
    const body = { ...values, certificates: splitNames(values.certificates), secret: values.secret || undefined };
    return call('POST', '/v1/users', { body });
  });
}

// Sends only the changed values: other administrators may have changed the others meanwhile.
export function changeUser(user) {
  const shown = { type: user.type, enabled: user.enabled, certificates: user.certificates.join('; ') || undefined };
  return askValues({
    title: `User ${user.name}`,
    specs: [
      { name: 'type', label: 'May do', type: 'select', options: TYPES, value: user.type },
      { name: 'enabled', label: 'Enabled', type: 'check', value: user.enabled },
      { ...CERTIFICATES, value: shown.certificates },
    ],
    action: 'Save',
    onSubmit: (values) => {
      const body = Object.fromEntries(Object.entries(values).filter(([name, value]) => value !== shown[name]));
      if ('certificates' in body) body.certificates = splitNames(body.certificates);
      return call('PATCH', path`/v1/users/${user.name}`, { body });
    },
  });
}

export function renewSecret(user) {
  const question = {
    title: `A new secret key for ${user.name}?`,
    text: 'The old secret key is refused immediately, and receives and streams that use it end.',
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
    text: 'The user and their policies are deleted, and their receives and streams end.',
    action: 'Delete',
    name,
    onSubmit: () => call('DELETE', path`/v1/users/${name}`),
  });
}

export function addPolicy(users) {
  return askValues({
    title: 'New policy',
    text: 'The most specific policy decides; among equally specific ones, a denial. Requests that no policy allows are denied.',
    specs: [
      userField(users),
      { ...RESOURCE, hint: 'Topic:NAME, Group:NAME or Cluster:*, where NAME may end with *; or * for everything' },
      { name: 'actions', label: 'Actions', required: true, placeholder: 'pub, sub', hint: 'all, pub, sub; administration: create, update, delete, get, list' },
      { name: 'effect', label: 'Effect', type: 'select', options: EFFECTS },
      { name: 'from', label: 'Only from these networks', placeholder: 'everywhere', hint: 'such as 10.0.0.0/8, separated by commas' },
    ],
    action: 'Add',
    onSubmit: (values) => call('POST', '/v1/policies', { body: { ...values, actions: splitWords(values.actions.toLowerCase()), from: splitWords(values.from) } }),
  });
}

export function removePolicy({ number, user, resource }) {
  return confirm({
    title: 'Remove the policy?',
    text: `The policy of ${user} for ${resource} is removed.`,
    action: 'Remove',
    onSubmit: () => call('DELETE', path`/v1/policies/${number}`),
  });
}

// Asks for a request, and shows which policy decides about it.
export async function explain(users) {
  let request;
  let verdict;
  const done = await askValues({
    title: 'Explain a decision',
    specs: [
      userField(users),
      { ...RESOURCE, hint: 'Topic:NAME, Group:NAME or Cluster:*' },
      { name: 'action', label: 'Action', type: 'select', options: ACTIONS },
      { name: 'from', label: 'From the address', placeholder: 'unknown' },
    ],
    action: 'Ask',
    onSubmit: async (values) => {
      request = values;
      const { resource, action, from } = values;
      verdict = await get(path`/v1/users/${values.user}/access`, { query: { resource, action, from } });
    },
  });
  if (!done) return;
  const { allowed, why, policy } = verdict;
  const content = [
    h('p', {}, h('span', { class: allowed ? 'badge good' : 'badge bad' }, allowed ? 'allowed' : 'denied'), ` ${request.user}: ${request.action} on ${request.resource}`),
    h('p', {}, why),
    policy && definitionList([
      ['Policy', policy.number], ['Resource', h('span', { class: 'name' }, policy.resource)], ['Actions', policy.actions.join(', ')],
      ['Effect', policy.effect], ['From', policy.from.join(', ') || 'everywhere'],
    ]),
  ];
  await inform({ title: 'The decision', content });
}
