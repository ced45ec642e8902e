// Dead letters of groups: look at them, and send them again.

import { Problem, call, get, pages, path } from '../api.js';
import { ask, confirm } from '../dialog.js';
import { button, h, link, panel, problem, replace, route } from '../dom.js';
import { age, count } from '../format.js';
import { table } from '../table.js';
import { PAGE, messageColumns, newest, queuesOf } from './messages.js';

// How RocketMQ names the topic of a group's dead letters.
const PREFIX = '%DLQ%';
const AT_ONCE = 100;

export function deadLetters(page, { group }) {
  return group === undefined ? all(page) : ofGroup(page, group);
}

function all(page) {
  const list = table({
    caption: 'Groups with dead letters',
    empty: 'No group has dead letters.',
    filter: (topic) => topic.group,
    sort: 'Group',
    columns: [
      { title: 'Group', by: (topic) => topic.group, cell: (topic) => link(route`/dead-letters/${topic.group}`, topic.group, { class: 'name' }) },
      { title: 'Dead letters', numeric: true, by: (topic) => topic.messages, cell: (topic) => count(topic.messages) },
      { title: 'Oldest', by: (topic) => topic.oldest, cell: (topic) => age(topic.oldest) },
      { title: 'Newest', by: (topic) => topic.newest, cell: (topic) => age(topic.newest) },
    ],
  });
  const groups = panel({
    plain: true,
    load: () => pages('/v1/topic-stats', 'topics', { signal: page.signal }),
    show: ({ lines, truncated }) => [
      truncated && h('p', { class: 'warning' }, 'There are too many topics to look at all of them.'),
      list.show(lines.filter(({ name }) => name.startsWith(PREFIX)).map((topic) => ({ ...topic, group: topic.name.slice(PREFIX.length) }))),
    ],
  });
  return { title: 'Dead letters', content: groups.element, refresh: groups.refresh };
}

function ofGroup(page, group) {
  const topic = PREFIX + group;
  const results = h('div', {});
  const resend = async (body) => {
    const resent = await call('POST', path`/v1/groups/${group}/dead-letters/resend`, { body });
    const failed = resent.letters.find((letter) => letter.failure !== undefined);
    if (failed || resent.failure) throw new Problem(0, failed?.failure ?? resent.failure);
    if (resent.letters.length === 0) throw new Problem(0, resent.finished ? 'There is nothing left to send.' : 'It was not found in time. Try again.');
    page.tell(`${count(resent.letters.length)} sent again${resent.finished ? '; there are no others' : ''}.`);
  };
  const one = (message) => confirm({
    title: 'Send it again?',
    text: `The message ${message.message_id} goes to ${message.dead_letter?.topic ?? 'the topic in which it failed'}, where every group gets it.`,
    action: 'Send again',
    danger: false,
    carryOut: () => resend({ id: message.message_id, from: { broker: message.broker, queue_id: message.queue_id, offset: message.offset } }),
  });
  const next = () => ask({
    title: 'Send dead letters again',
    text: 'Those that have not been sent again yet, the oldest first. They go to the topics in which they failed, where every group gets them.',
    specs: [{ name: 'next', label: 'How many at most', type: 'number', min: 1, value: 10, required: true, hint: `up to ${AT_ONCE} at a time` }],
    action: 'Send again',
    carryOut: resend,
  });
  const [stored, ...others] = messageColumns;
  const list = table({
    caption: `Dead letters of ${group}`,
    empty: 'The group has no dead letters.',
    columns: [
      stored,
      { title: 'Was in', cell: (message) => h('span', { class: 'name' }, message.dead_letter?.topic) },
      { title: 'Action', cell: (message) => button('Send again', () => one(message), { 'aria-label': `Send again: ${message.message_id}`, 'data-key': message.message_id }) },
      ...others,
    ],
  });
  let found = [];
  let queues = [];
  async function older() {
    found = [...found, ...await newest(topic, queues, page.signal)];
    const hasMore = queues.some((queue) => queue.before > queue.first_offset);
    replace(results, list.show(found), hasMore && h('p', { class: 'more' }, button('Older ones', older, { 'data-key': 'older' })));
  }
  async function load({ automatic }) {
    // Older ones that somebody is looking at stay there.
    if (automatic && queues.length > 0 && found.length > PAGE) return;
    try {
      queues = await queuesOf(topic, undefined, page.signal);
      found = [];
      await older();
    } catch (error) {
      if (error.name === 'AbortError') return;
      if (!(error instanceof Problem)) throw error;
      // The topic is made for the first dead letter.
      if (error.status === 404) replace(results, list.show([]));
      else replace(results, problem(error));
    }
  }
  return {
    title: `Dead letters of ${group}`,
    parent: ['/dead-letters', 'Dead letters'],
    actions: [link(route`/groups/${group}`, 'Group', { class: 'button' }), button('Send again', next, { class: 'primary' })],
    content: results,
    refresh: load,
  };
}
