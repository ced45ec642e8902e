// Looking for messages of a topic: the newest ones, or by id, key and time.

import { Problem, get, path } from '../api.js';
import { button, h, link, problem, replace, route } from '../dom.js';
import { fields } from '../form.js';
import { bytes, count, time } from '../format.js';
import { table } from '../table.js';
import { shortText } from './body.js';

export const PAGE = 50;
const FOUND = 200;
const PARALLEL = 4;
const PREVIEW_BYTES = 200;

// The address of a message.
function placeOf({ topic, broker, queue_id: queue, offset, lite_topic: lite }) {
  const place = route`/messages/${topic}/${broker}/${queue}/${offset}`;
  return lite === undefined ? place : `${place}?${new URLSearchParams({ lite_topic: lite })}`;
}

// The rows of found messages.
export const messageColumns = [
  {
    title: 'Stored', by: (message) => message.stored_at,
    cell: (message) => link(placeOf(message), time(message.stored_at)),
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

// Does `work` for each item, a few at a time.
async function each(items, work) {
  const left = [...items];
  const worker = async () => {
    for (let item = left.shift(); item !== undefined; item = left.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: PARALLEL }, worker));
}

// The messages before these offsets, the newest first. Each queue gives as many, so that none is left out.
export async function newest(topic, queues, signal) {
  const found = [];
  const share = Math.max(1, Math.ceil(PAGE / Math.max(1, queues.length)));
  await each(queues.filter((queue) => queue.before > queue.first_offset), async (queue) => {
    const offset = Math.max(queue.first_offset, queue.before - share);
    const page = await read(topic, queue, { offset, max: Math.min(100, queue.before - offset) }, signal);
    found.push(...page.messages.filter((message) => message.offset < queue.before));
    queue.before = offset;
  });
  return found.sort((a, b) => (a.stored_at < b.stored_at ? 1 : -1));
}

// The queues of a topic, with where a look at them begins.
export async function queuesOf(topic, lite_topic, signal) {
  const { queues } = await get(path`/v1/topics/${topic}/stats`, { query: { lite_topic }, signal });
  return queues.map((queue) => ({ ...queue, lite_topic, before: queue.next_offset, offset: queue.first_offset, finished: false }));
}

// Searches the queues, page by page, and reports after each.
async function search(topic, queues, wanted, signal, report) {
  const state = { messages: [], lookedAt: 0 };
  await each(queues.filter((queue) => !queue.finished), async (queue) => {
    while (!queue.finished && state.messages.length < FOUND) {
      const page = await read(topic, queue, { ...wanted, offset: queue.offset, max: 100 }, signal);
      state.messages.push(...page.messages);
      state.lookedAt += page.looked_at;
      queue.finished = page.finished;
      queue.offset = page.next_offset;
      report(state);
    }
  });
  return state;
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
    const mine = new AbortController();
    running = mine;
    const signal = AbortSignal.any([mine.signal, page.signal]);
    state.textContent = 'Searching…';
    try {
      if (wanted.id && wanted.key) throw new Problem(0, 'A search is for an id or for a key, not for both.');
      const queues = await queuesOf(topic, lite, signal);
      if (Object.values(wanted).every((value) => value === undefined)) await showNewest(topic, queues, signal);
      else await showFound({ topic, queues, wanted, mine, signal });
    } catch (error) {
      if (error.name === 'AbortError') return;
      if (!(error instanceof Problem)) throw error;
      state.textContent = '';
      replace(results, problem(error));
    }
  }

  async function showNewest(topic, queues, signal) {
    let found = [];
    const more = button('Older messages', () => step(), { 'data-key': 'older' });
    async function step() {
      found = [...found, ...await newest(topic, queues, signal)];
      state.textContent = found.length === 0 ? 'The topic has no messages.' : `The newest ${count(found.length)} messages.`;
      const hasMore = queues.some((queue) => queue.before > queue.first_offset);
      replace(results, list.show(found), hasMore && h('p', { class: 'more' }, more));
    }
    await step();
  }

  async function showFound({ topic, queues, wanted, mine, signal }) {
    let found = [];
    let lookedAt = 0;
    const stop = button('Stop', () => {
      mine.abort();
      state.textContent = `Stopped after ${count(lookedAt)} messages.`;
    });
    const report = (part) => replace(state, `Looked at ${count(lookedAt + part.lookedAt)} messages. `, stop);
    async function step() {
      const part = await search(topic, queues, wanted, signal, report);
      found = [...found, ...part.messages];
      lookedAt += part.lookedAt;
      replace(state, `${count(found.length)} found among ${count(lookedAt)} messages.`);
      const hasMore = queues.some((queue) => !queue.finished);
      replace(results, list.show(found), hasMore && h('p', { class: 'more' }, button('Go on', step, { 'data-key': 'more' })));
    }
    await step();
  }

  const submit = (event) => {
    event.preventDefault();
    const { topic, ...wanted } = form.values();
    const given = Object.entries(wanted).filter(([, value]) => value !== undefined);
    // The address leads to this search again.
    history.replaceState(null, '', `#${route`/messages/${topic}`}${given.length > 0 ? `?${new URLSearchParams(given)}` : ''}`);
    begin(form.values());
  };
  get('/v1/topics', { signal: page.signal })
    .then(({ topics }) => names.replaceChildren(...topics.map((topic) => h('option', { value: topic.name }))))
    // A name can be typed as well.
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
      // A search is repeated when somebody asks for that.
      if (!automatic && form.values().topic) begin(form.values());
    },
  };
}
