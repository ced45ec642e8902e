// One topic: its queues, its settings, and its clients.

import { get, pages, path } from '../api.js';
import { definitionList, h, link, panel, route } from '../dom.js';
import { age, bytes, count, rate, stored } from '../format.js';
import { table } from '../table.js';
import { deleteButton, settingsPanel } from './settings-panel.js';
import { clientColumns } from './clients.js';
import { changeTopic } from './topic-form.js';

export function topic(page, { topic: name }) {
  const { signal } = page;
  const of = (rest) => path`/v1/topics/${name}` + rest;
  const queues = table({
    caption: `Queues of ${name}`,
    empty: 'The topic has no queues.',
    columns: [
      { title: 'Queue', by: (queue) => queue.queue_id, cell: (queue) => queue.queue_id },
      { title: 'Broker', by: (queue) => queue.broker, cell: (queue) => h('span', { class: 'name' }, queue.broker) },
      { title: 'Messages', numeric: true, by: (queue) => queue.next_offset - queue.first_offset, cell: (queue) => count(queue.next_offset - queue.first_offset) },
      { title: 'First offset', numeric: true, by: (queue) => queue.first_offset, cell: (queue) => count(queue.first_offset) },
      { title: 'Next offset', numeric: true, by: (queue) => queue.next_offset, cell: (queue) => count(queue.next_offset) },
      { title: 'Oldest', by: (queue) => queue.oldest, cell: (queue) => age(queue.oldest) },
      { title: 'Newest', by: (queue) => queue.newest, cell: (queue) => age(queue.newest) },
    ],
  });
  const users = table({ caption: `Clients of ${name}`, empty: 'No client of this proxy uses the topic.', columns: clientColumns });
  const stats = panel({
    title: 'Queues',
    load: () => get(of('/stats'), { signal }),
    show: (stats) => [
      definitionList([
        ['Messages', count(stats.queues.reduce((sum, queue) => sum + queue.next_offset - queue.first_offset, 0))],
        ['Size', stored(stats.bytes)],
        ['Stored, last minute', rate(stats.rate_in)],
        ['Lite topics', stats.lite_topics === undefined ? undefined : count(stats.lite_topics)],
      ]),
      queues.show(stats.queues),
    ],
  });
  const settings = settingsPanel(page, {
    path: of(''),
    change: changeTopic,
    show: (topic) => {
      if (topic.type === 'lite' && lite.hidden) {
        lite.hidden = false;
        lite.append(liteTopics.element);
        liteTopics.refresh();
      }
      return definitionList([
        ['Type', topic.type],
        ['Queues', queuesOf(topic)],
        ['Permission', topic.perm],
        ['Messages are kept', topic.retention ?? 'as configured'],
        ['Bytes are kept', keptBytes(topic.retention_bytes)],
        ['Unused lite topics are kept', topic.type === 'lite' ? topic.lite_expiration ?? 'forever' : undefined],
      ]);
    },
  });
  const liteNames = table({
    caption: `Lite topics of ${name}`,
    empty: 'The topic has no lite topics.',
    filter: (lite) => lite.name,
    sort: 'Lite topic',
    columns: [
      { title: 'Lite topic', by: (lite) => lite.name, cell: (lite) => h('span', { class: 'name' }, lite.name) },
      { title: 'Messages', numeric: true, by: (lite) => lite.messages, cell: (lite) => link(`${route`/messages/${name}`}?${new URLSearchParams({ lite_topic: lite.name })}`, count(lite.messages)) },
      { title: 'Oldest', by: (lite) => lite.oldest, cell: (lite) => age(lite.oldest) },
      { title: 'Newest', by: (lite) => lite.newest, cell: (lite) => age(lite.newest) },
      {
        title: 'Subscribed', by: (lite) => lite.subscribed,
        cell: (lite) => h('span', { class: lite.subscribed ? 'badge good' : 'badge' }, lite.subscribed ? 'yes' : 'no'),
      },
    ],
  });
  const liteTopics = panel({
    title: 'Lite topics',
    load: () => pages(of('/lite-topics'), 'lite_topics', { signal }),
    show: ({ lines, truncated }) => [
      truncated && h('p', { class: 'warning' }, `Only the first ${count(lines.length)} lite topics are shown.`),
      liteNames.show(lines),
    ],
  });
  // Shown only for topics of type lite.
  const lite = h('div', { hidden: true });
  const clients = panel({
    title: 'Clients',
    load: () => get('/v1/clients', { query: { topic: name }, signal }),
    show: ({ clients }) => users.show(clients),
  });
  const remove = deleteButton(page, {
    path: of(''),
    kind: 'topic',
    name,
    consequence: 'Its messages are deleted with it.',
    back: '/topics',
  });
  return {
    title: name,
    parent: ['/topics', 'Topics'],
    actions: [link(route`/messages/${name}`, 'Messages', { class: 'button' }), remove],
    content: [settings.element, stats.element, lite, clients.element],
    refresh: () => Promise.all([settings, stats, clients, ...(lite.hidden ? [] : [liteTopics])].map((part) => part.refresh())),
  };
}

function queuesOf({ queues, read_queues: read, write_queues: write }) {
  if (queues !== undefined || read === write) return count(queues ?? read);
  return `${count(read)} for reading, ${count(write)} for writing`;
}

function keptBytes(limit) {
  if (limit === undefined) return 'as configured';
  return limit === 0 ? 'no limit' : `at most ${bytes(limit)}`;
}
