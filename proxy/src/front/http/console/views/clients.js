// The clients of this proxy.

import { get } from '../api.js';
import { h, link, panel, route } from '../dom.js';
import { age } from '../format.js';
import { table } from '../table.js';

const MAX_TOPICS = 5;

// Links to the first topics of a client.
function topicsOf({ topics }) {
  const links = topics.slice(0, MAX_TOPICS).map((topic, index) => [index > 0 && ', ', link(route`/topics/${topic}`, topic, { class: 'name' })]);
  return [links, topics.length > MAX_TOPICS && ` and ${topics.length - MAX_TOPICS} more`];
}

export const clientColumns = [
  { title: 'Client', by: (client) => client.id, cell: (client) => h('div', { class: 'wide name' }, client.id) },
  {
    title: 'Stream', by: (client) => client.connected,
    cell: (client) => h('span', { class: client.connected ? 'badge good' : 'badge warn' }, client.connected ? 'open' : 'closed'),
  },
  { title: 'Kind', by: (client) => client.kind, cell: (client) => client.kind.toLowerCase().replaceAll('_', ' ') },
  { title: 'Group', by: (client) => client.group, cell: (client) => client.group && link(route`/groups/${client.group}`, client.group, { class: 'name' }) },
  { title: 'Topics', cell: (client) => h('div', { class: 'wide' }, topicsOf(client)) },
  { title: 'Address', by: (client) => client.address, cell: (client) => h('span', { class: 'name' }, client.address) },
  { title: 'Since', by: (client) => client.since, cell: (client) => age(client.since) },
  { title: 'Language', by: (client) => client.language, cell: (client) => `${client.language} ${client.version}`.trim() },
  { title: 'Namespace', by: (client) => client.namespace, cell: (client) => client.namespace },
];

export function clients(page) {
  const list = table({
    caption: 'Clients',
    empty: 'No client has a session at this proxy. HTTP clients have no session.',
    filter: (client) => [client.id, client.group, client.address, client.language, ...client.topics].join(' '),
    sort: 'Client',
    columns: clientColumns,
  });
  const all = panel({
    plain: true,
    load: () => get('/v1/clients', { signal: page.signal }),
    show: ({ clients, truncated }) => [
      truncated && h('p', { class: 'warning' }, 'There are too many clients to show all of them. The views of groups and topics show their clients.'),
      list.show(clients),
    ],
  });
  return { title: 'Clients', content: all.element, refresh: all.refresh };
}
