// Users of access control, and what they may do. They are changed by subcommands, in their file.

import { Problem, get } from '../api.js';
import { h, panel } from '../dom.js';
import { table } from '../table.js';

export function users(page) {
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
    ],
  });
  const rules = table({
    caption: 'Policies',
    empty: 'There are no policies.',
    filter: (policy) => `${policy.user} ${policy.resource}`,
    sort: 'User',
    columns: [
      { title: 'User', by: (policy) => policy.user, cell: (policy) => h('span', { class: 'name' }, policy.user) },
      { title: 'Resource', by: (policy) => policy.resource, cell: (policy) => h('div', { class: 'wide name' }, policy.resource) },
      { title: 'Actions', cell: (policy) => policy.actions.join(', ') },
      {
        title: 'Effect', by: (policy) => policy.effect,
        cell: (policy) => h('span', { class: policy.effect === 'allow' ? 'badge good' : 'badge bad' }, policy.effect),
      },
      { title: 'From', cell: (policy) => (policy.from.length > 0 ? policy.from.join(', ') : 'everywhere') },
    ],
  });
  const all = panel({
    plain: true,
    load: async () => {
      try {
        return (await get('/v1/users', { signal: page.signal })).users;
      } catch (error) {
        if (error instanceof Problem && error.status === 404) return null;
        throw error;
      }
    },
    show: (users) => {
      if (users === null) return h('p', { class: 'quiet' }, 'There is no access control: everybody who reaches the proxy may do everything.');
      const policies = users.flatMap((user) => user.policies.map((policy) => ({ ...policy, user: user.name })));
      return [
        people.show(users),
        h('h2', { class: 'apart' }, 'Policies'),
        rules.show(policies),
        h('p', { class: 'quiet more' }, 'The commands “user” and “acl” of the proxy’s program change them, and “acl test” explains a decision.'),
      ];
    },
  });
  return { title: 'Users', content: all.element, refresh: all.refresh };
}
