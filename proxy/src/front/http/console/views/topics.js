// All topics.

import { get, pages } from '../api.js';
import { button, h, link, panel, problem, route } from '../dom.js';
import { age, count, rate, stored } from '../format.js';
import { table } from '../table.js';
import { createTopic } from './topic-form.js';

export function topics(page) {
  const { signal } = page;
  const list = table({
    caption: 'Topics',
    empty: 'There are no topics yet. They are created on first use, or here.',
    filter: (topic) => topic.name,
    sort: 'Topic',
    columns: [
      { title: 'Topic', by: (topic) => topic.name, cell: (topic) => link(route`/topics/${topic.name}`, topic.name, { class: 'name' }) },
      { title: 'Type', by: (topic) => topic.type, cell: (topic) => topic.type },
      { title: 'Queues', numeric: true, by: (topic) => topic.write_queues, cell: (topic) => count(topic.queues ?? topic.write_queues) },
      { title: 'Messages', numeric: true, by: (topic) => topic.stats?.messages, cell: (topic) => count(topic.stats?.messages) },
      { title: 'Size', numeric: true, by: (topic) => topic.stats?.bytes?.count, cell: (topic) => stored(topic.stats?.bytes) },
      { title: 'In', numeric: true, by: (topic) => topic.stats?.rate_in, cell: (topic) => rate(topic.stats?.rate_in) },
      { title: 'Oldest', by: (topic) => topic.stats?.oldest, cell: (topic) => age(topic.stats?.oldest) },
      { title: 'Newest', by: (topic) => topic.stats?.newest, cell: (topic) => age(topic.stats?.newest) },
    ],
  });
  const all = panel({
    plain: true,
    load: async () => {
      const [{ topics }, stats] = await Promise.all([
        get('/v1/topics', { signal }),
        // Without statistics, the names are still shown.
        pages('/v1/topic-stats', 'topics', { signal }).catch((failure) => ({ lines: [], failure })),
      ]);
      const known = new Map(stats.lines.map((line) => [line.name, line]));
      return { topics: topics.map((topic) => ({ ...topic, stats: known.get(topic.name) })), stats };
    },
    show: ({ topics, stats }) => [
      stats.failure && problem(stats.failure),
      stats.truncated && h('p', { class: 'warning' }, `Only the first ${count(stats.lines.length)} topics are shown with numbers.`),
      list.show(topics),
    ],
  });
  const created = (name) => {
    page.notify(`The topic ${name} was created.`);
    page.navigate(route`/topics/${name}`);
  };
  return {
    title: 'Topics',
    actions: [button('New topic', () => createTopic(created), { class: 'primary' })],
    content: all.element,
    refresh: all.refresh,
  };
}
