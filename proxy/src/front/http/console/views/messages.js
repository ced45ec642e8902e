// The messages of a topic: the newest ones, or a search by id, key and time.

import { Problem, get, path } from '../api.js';
import { button, h, link, problem, replace, route } from '../dom.js';
import { fields } from '../form.js';
import { bytes, count, time } from '../format.js';
import { table } from '../table.js';
import { shortText } from './body.js';

const NEWEST_PAGE = 50;
const SEARCH_BATCH = 200;
const MAX_CONCURRENT = 4;
const PREVIEW_BYTES = 200;

// The route of a message.
function messageRoute({ topic, broker, queue_id: queue, offset, lite_topic: lite }) {
  const place = route`/messages/${topic}/${broker}/${queue}/${offset}`;
  return lite === undefined ? place : `${place}?${new URLSearchParams({ lite_topic: lite })}`;
}

// The columns of tables of messages.
export const messageColumns = [
  {
    title: 'Stored', by: (message) => message.stored_at,
    cell: (message) => link(messageRoute(message), time(message.stored_at)),
  },
  { title: 'Queue', numeric: true, by: (message) => message.queue_id, cell: (message) => message.queue_id },
  { title: 'Offset', numeric: true, by: (message) => message.offset, cell: (message) => message.offset },
  { title: 'Keys', cell: (message) => h('div', { class: 'wide' }, (message.keys ?? []).join(', ')) },
  { title: 'Tag', by: (message) => message.tag, cell: (message) => message.tag },
  { title: 'Body', cell: (message) => h('div', { class: 'wide mono quiet' }, shortText(message)) },
  { title: 'Size', numeric: true, by: (message) => message.body_bytes, cell: (message) => bytes(message.body_bytes) },
  { title: 'Id', by: (message) => message.message_id, cell: (message) => h('span', { class: 'name' }, message.message_id) },
];

function read(topic, { broker, queue_id: queue, lite_topic }, query, signal) {
  return get(path`/v1/topics/${topic}/messages`, {
    query: { broker, queue, lite_topic, bodies: 'base64', max_body: PREVIEW_BYTES, ...query }, signal,
  });
}

// Calls `work` for each item, a few at a time. After a failure, no further item is started; `work` gets a function that returns
// whether there was a failure.
async function forEachConcurrently(items, work) {
  const left = [...items];
  let failure = null;
  const worker = async () => {
    while (left.length > 0 && failure === null) {
      try {
        await work(left.shift(), () => failure !== null);
      } catch (error) {
        failure ??= error;
      }
    }
  };
  await Promise.all(Array.from({ length: MAX_CONCURRENT }, worker));
  if (failure !== null) throw failure;
}

// Whether there are messages that `addOlder` has not read yet.
export function hasOlder(queues) {
  return queues.some((queue) => queue.before > queue.first_offset);
}

// Adds the next older messages, sorted from the newest to the oldest, with the same number from each queue. If a queue fails, the
// messages of the others are added, and a further call repeats it.
export async function addOlder(found, topic, queues, signal) {
  const share = Math.max(1, Math.ceil(NEWEST_PAGE / Math.max(1, queues.length)));
  await forEachConcurrently(queues.filter((queue) => hasOlder([queue])), async (queue) => {
    const start = Math.max(queue.first_offset, queue.before - share);
    const part = await readRange(topic, queue, start, signal);
    found.push(...part);
    found.sort(newestFirst);
    queue.before = start;
  });
}

// Reads the messages of a queue from an offset to `before`. An answer may contain only some of them.
async function readRange(topic, queue, start, signal) {
  const messages = [];
  for (let offset = start; offset < queue.before;) {
    const page = await read(topic, queue, { offset, max: Math.min(100, queue.before - offset) }, signal);
    messages.push(...page.messages.filter((message) => message.offset < queue.before));
    if (page.finished || page.next_offset <= offset) break;
    offset = page.next_offset;
  }
  return messages;
}

function newestFirst(a, b) {
  if (a.stored_at !== b.stored_at) return a.stored_at < b.stored_at ? 1 : -1;
  return b.offset - a.offset;
}

// The queues of a topic, with the offsets at which reading starts.
export async function queuesOf(topic, lite_topic, signal) {
  const { queues } = await get(path`/v1/topics/${topic}/stats`, { query: { lite_topic }, signal });
  return queues.map((queue) => ({ ...queue, lite_topic, before: queue.next_offset, offset: queue.first_offset, finished: false }));
}

// Searches the queues page by page, until there are enough results or the search is stopped. Calls `report` after each page.
async function search(state, topic, queues, wanted, signal, report) {
  const limit = state.messages.length + SEARCH_BATCH;
  await forEachConcurrently(queues.filter((queue) => !queue.finished), async (queue, hasFailed) => {
    while (!queue.finished && !state.stopped && !hasFailed() && state.messages.length < limit) {
      const page = await read(topic, queue, { ...wanted, offset: queue.offset, max: 100 }, signal);
      state.messages.push(...page.messages);
      state.lookedAt += page.looked_at;
      queue.finished = page.finished || page.next_offset <= queue.offset;
      queue.offset = page.next_offset;
      report();
    }
  });
}

// Shows rows that are loaded in pages: `more` loads the next page, and `hasMore` returns whether there is one. If loading fails,
// the earlier rows stay.
export function showPages({ element, list, rows, text, more, hasMore, signal }) {
  const next = button(text, load, { 'data-key': 'more' });
  async function load() {
    const isFocused = document.activeElement === next;
    next.disabled = true;
    let failure = null;
    try {
      await more();
    } catch (error) {
      if (!signal.aborted && !(error instanceof Problem)) throw error;
      failure = error;
    }
    // Another search may have started.
    if (signal.aborted) return;
    next.disabled = false;
    replace(
      element,
      failure && problem(failure),
      (rows.length > 0 || !failure) && list.show(rows),
      hasMore() && h('p', { class: 'more' }, next),
    );
    // A disabled button loses the focus.
    if (isFocused && document.activeElement === document.body) next.focus({ preventScroll: true });
  }
  return load();
}

// The end of the second in a field: messages are stored with milliseconds.
function endOfSecond(to) {
  return to && new Date(Date.parse(to) + 999).toISOString();
}

export function messages(page, params) {
  const names = h('datalist', {});
  const form = fields([
    { name: 'topic', label: 'Topic', value: params.topic, required: true, list: names },
    { name: 'lite_topic', label: 'Lite topic', value: params.lite_topic, placeholder: 'in topics of type lite' },
    { name: 'id', label: 'Message id', value: params.id },
    { name: 'key', label: 'Key', value: params.key },
    { name: 'from', label: 'Stored from', type: 'time', value: params.from },
    { name: 'to', label: 'Stored until', type: 'time', value: params.to },
  ]);
  const results = h('div', {});
  const state = h('p', { class: 'quiet', role: 'status' });
  const list = table({ caption: 'Messages', empty: 'No message was found.', columns: messageColumns });
  let running = null;

  async function begin({ topic, lite_topic: lite, ...wanted }) {
    running?.abort();
    running = new AbortController();
    const signal = AbortSignal.any([running.signal, page.signal]);
    state.textContent = 'Searching…';
    replace(results);
    try {
      if (wanted.id && wanted.key) throw new Problem(0, 'A search has an id or a key, not both.');
      const queues = await queuesOf(topic, lite, signal);
      if (Object.values(wanted).every((value) => value === undefined)) await showNewest(topic, queues, signal);
      else await showFound(topic, queues, { ...wanted, to: endOfSecond(wanted.to) }, signal);
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof Problem)) throw error;
      state.textContent = '';
      replace(results, problem(error));
    }
  }

  function showNewest(topic, queues, signal) {
    const rows = [];
    const more = async () => {
      try {
        await addOlder(rows, topic, queues, signal);
      } finally {
        const nothing = hasOlder(queues) ? '' : 'The topic has no messages.';
        if (!signal.aborted) state.textContent = rows.length === 0 ? nothing : `The newest ${count(rows.length)} messages.`;
      }
    };
    return showPages({ element: results, list, rows, text: 'Older messages', more, hasMore: () => hasOlder(queues), signal });
  }

  function showFound(topic, queues, wanted, signal) {
    const found = { messages: [], lookedAt: 0, stopped: false };
    const stop = button('Stop', () => {
      found.stopped = true;
      stop.disabled = true;
    });
    const progress = h('span', {});
    const report = () => {
      progress.textContent = `Searched ${count(found.lookedAt)} messages. `;
    };
    const more = async () => {
      found.stopped = false;
      stop.disabled = false;
      report();
      replace(state, progress, stop);
      try {
        await search(found, topic, queues, wanted, signal, report);
      } finally {
        const text = `${count(found.messages.length)} found among ${count(found.lookedAt)} messages.`;
        if (!signal.aborted) replace(state, found.stopped ? `Stopped: ${text}` : text);
      }
    };
    const hasMore = () => queues.some((queue) => !queue.finished);
    return showPages({ element: results, list, rows: found.messages, text: 'Continue', more, hasMore, signal });
  }

  const submit = (event) => {
    event.preventDefault();
    const { topic, ...wanted } = form.values();
    const given = Object.entries(wanted).filter(([, value]) => value !== undefined);
    // The address repeats this search.
    history.replaceState(null, '', `#${route`/messages/${topic}`}${given.length > 0 ? `?${new URLSearchParams(given)}` : ''}`);
    begin(form.values());
  };
  get('/v1/topics', { signal: page.signal })
    .then(({ topics }) => names.replaceChildren(...topics.map((topic) => h('option', { value: topic.name }))))
    // Without suggestions, a name can still be typed.
    .catch(() => {});
  return {
    title: 'Messages',
    content: [
      h('section', { class: 'panel', 'aria-label': 'Search' },
        h('form', { class: 'search', onsubmit: submit }, form.elements,
          h('div', { class: 'buttons' }, h('button', { type: 'submit', class: 'primary' }, 'Search')))),
      state,
      results,
    ],
    refresh: ({ automatic }) => {
      // A search is repeated only when the user requests it.
      if (!automatic && form.values().topic) begin(form.values());
    },
  };
}
