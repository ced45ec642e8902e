// The dead letters of groups, which can be sent again.

import { Problem, call, get, pages, path } from '../api.js';
import { askValues, confirm } from '../dialog.js';
import { button, h, link, panel, problem, replace, route } from '../dom.js';
import { age, count } from '../format.js';
import { table } from '../table.js';
import { addOlder, hasOlder, showPages, messageColumns, queuesOf } from './messages.js';

// The prefix of dead-letter topics, followed by the name of the group.
const PREFIX = '%DLQ%';
const MAX_RESEND = 100;

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
      truncated && h('p', { class: 'warning' }, 'There are too many topics to search all of them.'),
      list.show(lines.filter(({ name }) => name.startsWith(PREFIX)).map((topic) => ({ ...topic, group: topic.name.slice(PREFIX.length) }))),
    ],
  });
  return { title: 'Dead letters', content: groups.element, refresh: groups.refresh };
}

function ofGroup(page, group) {
  const topic = PREFIX + group;
  const results = h('div', {});
  const failures = h('div', {});
  // Sends dead letters again, and shows the results. Resolves to the position that the search for an id has reached, if it must
  // continue.
  const resend = async (body) => {
    const { letters, failure, finished, searched_to: searchedTo } = await call('POST', path`/v1/groups/${group}/dead-letters/resend`, { body });
    if (searchedTo) return searchedTo;
    const failed = letters.filter((letter) => letter.failure !== undefined);
    const sent = letters.length - failed.length;
    replace(failures, failed.length > 0 && notSent(failed));
    if (sent === 0) {
      const nothing = finished ? 'There are no dead letters left to send.' : 'The dead letter was not found in time. Try again.';
      throw new Problem(0, failed[0]?.failure ?? failure ?? nothing);
    }
    page.notify([
      `${count(sent)} sent again`,
      failed.length > 0 && `, ${count(failed.length)} failed: ${failed[0].failure}`,
      failure && `; it ended early: ${failure}`,
      finished && body.next !== undefined && failed.length === 0 && '; there are no others',
    ].filter(Boolean).join(''));
    return undefined;
  };
  const one = (message) => confirm({
    title: 'Send the dead letter again?',
    text: `The message ${message.message_id} is sent to ${message.dead_letter?.topic ?? 'its original topic'}, where all groups receive it.`,
    action: 'Send again',
    danger: false,
    onSubmit: async (closed) => {
      // The first call has no position: with one, the dead letter would not count as sent.
      let from;
      do {
        from = await resend({ id: message.message_id, from });
      } while (from && !closed.aborted);
    },
  });
  const next = () => askValues({
    title: 'Send dead letters again',
    text: 'This sends dead letters that were not sent again yet, the oldest first, to their original topics, where all groups receive them.',
    specs: [{ name: 'next', label: 'Number', type: 'number', min: 1, value: 10, required: true, hint: `up to ${MAX_RESEND} at a time` }],
    action: 'Send again',
    onSubmit: resend,
  });
  const [stored, ...others] = messageColumns;
  const list = table({
    caption: `Dead letters of ${group}`,
    empty: 'The group has no dead letters.',
    columns: [
      stored,
      { title: 'Original topic', cell: (message) => h('span', { class: 'name' }, message.dead_letter?.topic) },
      { title: 'Action', cell: (message) => button('Send again', () => one(message), { 'aria-label': `Send again: ${message.message_id}`, 'data-key': message.message_id }) },
      ...others,
    ],
  });
  let running = null;
  let parts = 0;
  async function load({ automatic }) {
    // An automatic refresh would remove older messages that the user has loaded.
    if (automatic && parts > 1) return;
    running?.abort();
    running = new AbortController();
    const signal = AbortSignal.any([running.signal, page.signal]);
    const rows = [];
    parts = 0;
    try {
      const queues = await queuesOf(topic, undefined, signal);
      const more = () => {
        parts += 1;
        return addOlder(rows, topic, queues, signal);
      };
      await showPages({ element: results, list, rows, text: 'Older ones', more, hasMore: () => hasOlder(queues), signal });
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof Problem)) throw error;
      // The topic is created with the first dead letter.
      if (error.status === 404) replace(results, list.show([]));
      else replace(results, problem(error));
    }
  }
  return {
    title: `Dead letters of ${group}`,
    parent: ['/dead-letters', 'Dead letters'],
    actions: [link(route`/groups/${group}`, 'Group', { class: 'button' }), button('Send again', next, { class: 'primary' })],
    content: [failures, results],
    refresh: load,
  };
}

function notSent(letters) {
  const line = ({ message_id: id, failure }) => h('li', {}, h('span', { class: 'name' }, id), `: ${failure}`);
  return h('section', { class: 'panel', 'aria-label': 'Not sent again' }, h('h2', {}, 'Not sent again'), h('ul', {}, letters.map(line)));
}
