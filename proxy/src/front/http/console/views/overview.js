// An overview of this proxy: topics, groups, clients, quotas and the disk.

import { get, pages } from '../api.js';
import { definitionList, h, link, panel, route, svg } from '../dom.js';
import { age, bytes, count, rate } from '../format.js';
import { table } from '../table.js';

const MAX_POINTS = 60;
const TOP_ROWS = 8;
// The values of the charts, since the page was opened.
const history = new Map();

function record(name, value) {
  const values = history.get(name) ?? [];
  values.push(value);
  history.set(name, values.slice(-MAX_POINTS));
}

function sparkline(name) {
  const values = history.get(name) ?? [];
  if (values.length < 2) return null;
  const top = Math.max(...values, 1e-9);
  const points = values.map((value, index) => `${(index / (values.length - 1)) * 100},${27 - (value / top) * 25}`);
  return svg('svg', { class: 'spark', viewBox: '0 0 100 28', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
    svg('polygon', { points: `0,28 ${points.join(' ')} 100,28`, fill: 'currentColor', opacity: 0.15 }),
    svg('polyline', { points: points.join(' '), fill: 'none', stroke: 'currentColor', 'stroke-width': 1.5, 'vector-effect': 'non-scaling-stroke' }));
}

function figure(term, value, { note, chart } = {}) {
  return h('div', {}, h('dt', {}, term), h('dd', {}, value, note && h('small', {}, note), chart && sparkline(chart)));
}

function sum(lines, field) {
  return lines.reduce((sum, line) => sum + (line[field] ?? 0), 0);
}

const bySize = (field) => (a, b) => (b[field] ?? 0) - (a[field] ?? 0);

export function overview(page) {
  const { signal } = page;
  const busiest = table({
    caption: 'Topics with the most traffic',
    empty: 'There are no topics yet.',
    columns: [
      { title: 'Topic', cell: (topic) => link(route`/topics/${topic.name}`, topic.name, { class: 'name' }) },
      { title: 'In', numeric: true, cell: (topic) => rate(topic.rate_in) },
      { title: 'Messages', numeric: true, cell: (topic) => count(topic.messages) },
      { title: 'Newest', cell: (topic) => age(topic.newest) },
    ],
  });
  const behind = table({
    caption: 'Groups with the most lag',
    empty: 'There are no groups yet.',
    columns: [
      { title: 'Group', cell: (group) => link(route`/groups/${group.name}`, group.name, { class: 'name' }) },
      { title: 'Lag', numeric: true, cell: (group) => count(group.lag) },
      { title: 'In flight', numeric: true, cell: (group) => count(group.in_flight) },
      { title: 'Settled', numeric: true, cell: (group) => rate(group.rate_settled) },
      { title: 'Oldest', cell: (group) => age(group.oldest_unsettled) },
    ],
  });
  const topics = panel({
    title: 'Topics',
    load: () => pages('/v1/topic-stats', 'topics', { signal }),
    show: ({ lines, truncated }) => {
      const total = sum(lines, 'rate_in');
      record('in', total);
      const some = truncated ? 'of the first ones' : undefined;
      return [
        h('dl', { class: 'figures' },
          figure('Topics', `${count(lines.length)}${truncated ? '+' : ''}`, { note: some }),
          figure('Messages', count(sum(lines, 'messages'))),
          figure('Sent', rate(total), { chart: 'in' })),
        busiest.show(lines.sort(bySize('messages')).sort(bySize('rate_in')).slice(0, TOP_ROWS)),
      ];
    },
  });
  const groups = panel({
    title: 'Consumer groups',
    load: () => pages('/v1/group-stats', 'groups', { signal }),
    show: ({ lines, truncated }) => {
      const [lag, settled] = [sum(lines, 'lag'), sum(lines, 'rate_settled')];
      record('lag', lag);
      record('settled', settled);
      const some = truncated ? 'of the first ones' : undefined;
      return [
        h('dl', { class: 'figures' },
          figure('Groups', `${count(lines.length)}${truncated ? '+' : ''}`, { note: some }),
          figure('Lag', count(lag), { chart: 'lag' }),
          figure('Settled', rate(settled), { chart: 'settled' })),
        behind.show(lines.sort(bySize('lag')).slice(0, TOP_ROWS)),
      ];
    },
  });
  const clients = panel({
    title: 'Clients of this proxy',
    load: () => get('/v1/clients', { signal }),
    show: ({ clients, truncated }) => {
      const of = (test) => count(clients.filter(test).length);
      return h('dl', { class: 'figures' },
        figure('Connected', of((client) => client.connected), { note: truncated ? 'of the first ones' : undefined }),
        figure('Producers', of((client) => client.kind === 'PRODUCER')),
        figure('Consumers', of((client) => client.group !== '')));
    },
  });
  const refusals = panel({
    title: 'Limits and refusals',
    load: () => get('/v1/quotas', { signal }),
    show: ({ quotas }) => h('dl', { class: 'figures' },
      figure('Quotas', count(quotas.length)),
      figure('Refused', count(sum(quotas, 'refused')), { note: 'since the start' }),
      figure('Delayed', count(sum(quotas, 'delayed')), { note: 'since the start' })),
  });
  const disk = panel({
    title: 'Disk',
    load: () => get('/v1/store', { signal }),
    show: (store) => {
      const used = store.total_bytes > 0 ? 1 - store.free_bytes / store.total_bytes : 0;
      return [
        store.failure && h('p', { class: 'problem', role: 'alert' }, `Nothing can be stored: ${store.failure}`),
        h('p', { class: 'mono' }, store.directory),
        h('div', { class: 'meter', role: 'img', 'aria-label': `${Math.round(used * 100)} % of the disk are used` },
          svg('svg', { viewBox: '0 0 100 1', preserveAspectRatio: 'none' }, svg('rect', { width: used * 100, height: 1 }))),
        h('p', { class: 'quiet' }, `${bytes(store.free_bytes)} free of ${bytes(store.total_bytes)}`),
        definitionList(store.usage.map(({ kind, bytes: size }) => [kind, bytes(size)])),
      ];
    },
  });
  const parts = [topics, groups, clients, refusals, disk];
  return {
    title: 'Overview',
    content: [h('div', { class: 'columns' }, topics.element, groups.element), h('div', { class: 'columns' }, clients.element, refusals.element, disk.element)],
    refresh: () => Promise.all(parts.map((part) => part.refresh())),
  };
}

