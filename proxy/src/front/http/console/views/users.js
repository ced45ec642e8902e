// The users and policies of access control. Those in the catalog can be changed here, and those in a file by commands.

import { Problem, get } from '../api.js';
import { button, h, panel } from '../dom.js';
import { table } from '../table.js';
import { addPolicy, addUser, changeUser, explain, removePolicy, removeUser, renewSecret } from './user-form.js';

export function users(page) {
  let inCatalog = false;
  // Waits for a dialog, and shows its change.
  const change = async (dialog, message) => {
    if (await dialog) page.notify(message);
    all.refresh();
  };
  const actions = (...buttons) => inCatalog && h('div', { class: 'actions' }, buttons);
  const people = table({
    caption: 'Users',
    empty: 'There are no users.',
    filter: (user) => [user.name, ...user.certificates].join(' '),
    sort: 'User',
    columns: [
      { title: 'User', by: (user) => user.name, cell: (user) => h('span', { class: 'name' }, user.name) },
      { title: 'May', by: (user) => user.type, cell: (user) => (user.type === 'super' ? h('span', { class: 'badge warn' }, 'everything') : 'what policies allow') },
      {
        title: 'State', by: (user) => user.enabled,
        cell: (user) => h('span', { class: user.enabled ? 'badge good' : 'badge bad' }, user.enabled ? 'enabled' : 'disabled'),
      },
      { title: 'Policies', numeric: true, by: (user) => user.policies.length, cell: (user) => user.policies.length },
      { title: 'Certificates', cell: (user) => h('div', { class: 'wide name' }, user.certificates.join(', ')) },
      {
        title: 'Change',
        cell: (user) => actions(
          button('Change', () => change(changeUser(user), `The user ${user.name} was changed.`), { 'aria-label': `Change ${user.name}`, 'data-key': `change ${user.name}` }),
          button('New secret', () => change(renewSecret(user), `${user.name} has a new secret key.`), { 'aria-label': `New secret for ${user.name}`, 'data-key': `secret ${user.name}` }),
          button('Delete', () => change(removeUser(user), `The user ${user.name} was deleted.`), { class: 'danger', 'aria-label': `Delete ${user.name}`, 'data-key': `delete ${user.name}` })),
      },
    ],
  });
  const rules = table({
    caption: 'Policies',
    empty: 'There are no policies.',
    filter: (policy) => `${policy.user} ${policy.resource}`,
    sort: 'User',
    columns: [
      { title: 'User', by: (policy) => policy.user, cell: (policy) => h('span', { class: 'name' }, policy.user) },
      { title: 'Number', numeric: true, by: (policy) => policy.number, cell: (policy) => policy.number },
      { title: 'Resource', by: (policy) => policy.resource, cell: (policy) => h('div', { class: 'wide name' }, policy.resource) },
      { title: 'Actions', cell: (policy) => policy.actions.join(', ') },
      {
        title: 'Effect', by: (policy) => policy.effect,
        cell: (policy) => h('span', { class: policy.effect === 'allow' ? 'badge good' : 'badge bad' }, policy.effect),
      },
      { title: 'From', cell: (policy) => (policy.from.length > 0 ? policy.from.join(', ') : 'everywhere') },
      {
        title: 'Change',
        cell: (policy) => actions(
          button('Remove', () => change(removePolicy(policy), `Policy ${policy.number} was removed.`), { class: 'danger', 'aria-label': `Remove policy ${policy.number}`, 'data-key': `remove ${policy.number}` })),
      },
    ],
  });
  const all = panel({
    plain: true,
    load: async () => {
      try {
        return await get('/v1/users', { signal: page.signal });
      } catch (error) {
        if (error instanceof Problem && error.status === 404) return null;
        throw error;
      }
    },
    show: (answer) => {
      if (answer === null) return h('p', { class: 'quiet' }, 'There is no access control: everybody who reaches the proxy may do everything.');
      const { users } = answer;
      inCatalog = answer.source === 'catalog';
      return [
        h('div', { class: 'panel-head' }, h('div', { class: 'actions' },
          button('Ask what a user may do', () => explain(users), { 'data-key': 'explain' }),
          inCatalog && button('New user', () => change(addUser(), 'The user was added.'), { class: 'primary', 'data-key': 'new user' }))),
        people.show(users),
        h('div', { class: 'panel-head apart' }, h('h2', {}, 'Policies'), h('div', { class: 'actions' },
          inCatalog && button('New policy', () => change(addPolicy(users), 'The policy was added.'), { class: 'primary', 'data-key': 'new policy' }))),
        rules.show(users.flatMap((user) => user.policies)),
        !inCatalog && h('p', { class: 'quiet more' }, 'Users and policies are in a file. Change them with the commands “user” and “acl” of rocketmq-thin-proxy.'),
      ];
    },
  });
  return { title: 'Users', content: all.element, refresh: all.refresh };
}
