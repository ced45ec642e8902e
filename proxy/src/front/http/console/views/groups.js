// All consumer groups.

import { get, pages } from '../api.js';
import { button, h, link, panel, problem, route } from '../dom.js';
import { age, count, rate } from '../format.js';
import { table } from '../table.js';
import { createGroup } from './group-form.js';

export function groups(page) {
  const { signal } = page;
  const list = table({
    caption: 'Consumer groups',
    empty: 'There are no groups yet. They are created on first use, or here.',
    filter: (group) => group.name,
    sort: 'Group',
    columns: [
      { title: 'Group', by: (group) => group.name, cell: (group) => link(route`/groups/${group.name}`, group.name, { class: 'name' }) },
      { title: 'Order', by: (group) => group.fifo, cell: (group) => (group.fifo ? 'fifo' : 'any') },
      { title: 'Lag', numeric: true, by: (group) => group.stats?.lag, cell: (group) => count(group.stats?.lag) },
      { title: 'In flight', numeric: true, by: (group) => group.stats?.in_flight, cell: (group) => count(group.stats?.in_flight) },
      { title: 'To retry', numeric: true, by: (group) => group.stats?.retry, cell: (group) => count(group.stats?.retry) },
      { title: 'Blocked', numeric: true, by: (group) => group.stats?.blocked, cell: (group) => count(group.stats?.blocked) },
      { title: 'Delivered', numeric: true, by: (group) => group.stats?.rate_delivered, cell: (group) => rate(group.stats?.rate_delivered) },
      { title: 'Settled', numeric: true, by: (group) => group.stats?.rate_settled, cell: (group) => rate(group.stats?.rate_settled) },
      { title: 'Oldest unsettled', by: (group) => group.stats?.oldest_unsettled, cell: (group) => age(group.stats?.oldest_unsettled) },
      {
        title: 'Consuming', by: (group) => group.consume,
        cell: (group) => h('span', { class: group.consume ? 'badge good' : 'badge bad' }, group.consume ? 'allowed' : 'forbidden'),
      },
    ],
  });
  const all = panel({
    plain: true,
    load: async () => {
      const [{ groups }, stats] = await Promise.all([
        get('/v1/groups', { signal }),
        pages('/v1/group-stats', 'groups', { signal }).catch((failure) => ({ lines: [], failure })),
      ]);
      const known = new Map(stats.lines.map((line) => [line.name, line]));
      return { groups: groups.map((group) => ({ ...group, stats: known.get(group.name) })), stats };
    },
    show: ({ groups, stats }) => [
      stats.failure && problem(stats.failure),
      stats.truncated && h('p', { class: 'warning' }, `Only the first ${count(stats.lines.length)} groups are shown with numbers.`),
      list.show(groups),
    ],
  });
  const created = (name) => {
    page.notify(`The group ${name} was created.`);
    page.navigate(route`/groups/${name}`);
  };
  return {
    title: 'Groups',
    actions: [button('New group', () => createGroup(created), { class: 'primary' })],
    content: all.element,
    refresh: all.refresh,
  };
}
