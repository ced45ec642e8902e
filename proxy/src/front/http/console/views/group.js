// One consumer group: its progress, its clients, and its settings.

import { get, path } from '../api.js';
import { button, definitionList, h, link, panel, route } from '../dom.js';
import { age, count, rate } from '../format.js';
import { table } from '../table.js';
import { deleteButton, settingsPanel } from './settings-panel.js';
import { clientColumns } from './clients.js';
import { changeGroup, formatDelays, resetGroup } from './group-form.js';

export function group(page, { group: name }) {
  const { signal } = page;
  const of = (rest) => path`/v1/groups/${name}` + rest;
  let topics = [];
  const queues = table({
    caption: `Progress of ${name}`,
    empty: 'The group has not received any messages yet.',
    columns: [
      { title: 'Topic', by: (queue) => queue.topic, cell: (queue) => link(route`/topics/${queue.topic}`, queue.topic, { class: 'name' }) },
      { title: 'Queue', numeric: true, by: (queue) => queue.queue_id, cell: (queue) => queue.queue_id },
      { title: 'Broker', by: (queue) => queue.broker, cell: (queue) => h('span', { class: 'name' }, queue.broker) },
      { title: 'Lag', numeric: true, by: (queue) => queue.lag, cell: (queue) => count(queue.lag) },
      { title: 'In flight', numeric: true, by: (queue) => queue.in_flight, cell: (queue) => count(queue.in_flight) },
      { title: 'To retry', numeric: true, by: (queue) => queue.retry, cell: (queue) => count(queue.retry) },
      { title: 'Blocked', numeric: true, by: (queue) => queue.blocked, cell: (queue) => count(queue.blocked) },
      { title: 'Settled to', numeric: true, by: (queue) => queue.settled_offset, cell: (queue) => count(queue.settled_offset) },
      { title: 'Delivered to', numeric: true, by: (queue) => queue.next_offset, cell: (queue) => count(queue.next_offset) },
      { title: 'End', numeric: true, by: (queue) => queue.end_offset, cell: (queue) => count(queue.end_offset) },
      { title: 'Oldest unsettled', by: (queue) => queue.oldest_unsettled, cell: (queue) => age(queue.oldest_unsettled) },
    ],
  });
  const members = table({ caption: `Clients of ${name}`, empty: 'No consumer of this group has a session at this proxy.', columns: clientColumns });
  const move = button('Reset offsets', async () => {
    if (await resetGroup(name, topics)) page.notify('The group was moved.');
    progress.refresh();
  }, { disabled: true });
  const progress = panel({
    title: 'Progress',
    actions: [move],
    load: () => get(of('/stats'), { signal }),
    show: (stats) => {
      topics = stats.topics.map(({ topic }) => topic);
      move.disabled = topics.length === 0;
      const rows = stats.topics.flatMap(({ topic, queues }) => queues.map((queue) => ({ ...queue, topic })));
      const total = (field) => rows.reduce((sum, row) => sum + (row[field] ?? 0), 0);
      const rates = (field) => stats.topics.reduce((sum, topic) => (topic[field] === undefined ? sum : (sum ?? 0) + topic[field]), undefined);
      return [
        definitionList([
          ['Lag', count(total('lag'))],
          ['In flight', count(total('in_flight'))],
          ['Delivered, last minute', rate(rates('rate_delivered'))],
          ['Settled, last minute', rate(rates('rate_settled'))],
        ]),
        stats.truncated && h('p', { class: 'warning' }, 'The group has received from more topics than are shown.'),
        queues.show(rows),
      ];
    },
  });
  const settings = settingsPanel(page, {
    path: of(''),
    change: changeGroup,
    show: (group) => definitionList([
      ['Order', group.fifo ? 'in order within a message group' : 'any'],
      ['Consuming', group.consume ? 'allowed' : 'forbidden'],
      ['Redeliveries', count(group.max_retries)],
      ['Delays between deliveries', formatDelays(group.retry)],
      ['Start in a new topic', group.start],
      ['Bound to the lite topic', group.lite_bind_topic],
      ['Most lite topics of a client', group.lite_bind_topic && count(group.lite_quota)],
      ['Lite subscriptions', group.lite_bind_topic && (group.lite_exclusive ? 'exclusive' : 'shared')],
    ]),
  });
  const clients = panel({
    title: 'Clients',
    load: () => get('/v1/clients', { query: { group: name }, signal }),
    show: ({ clients }) => members.show(clients),
  });
  const remove = deleteButton(page, {
    path: of(''),
    kind: 'group',
    name,
    consequence: 'Its progress is deleted with it: a group of the same name starts anew.',
    back: '/groups',
  });
  return {
    title: name,
    parent: ['/groups', 'Groups'],
    actions: [link(route`/dead-letters/${name}`, 'Dead letters', { class: 'button' }), remove],
    content: [progress.element, clients.element, settings.element],
    refresh: () => Promise.all([progress, settings, clients].map((part) => part.refresh())),
  };
}
