// One stored message.

import { Problem, get, path } from '../api.js';
import { button, definitionList, h, link, panel, route } from '../dom.js';
import { count, time } from '../format.js';
import { table } from '../table.js';
import { bodyView } from './body.js';

// How many bytes of a body are shown at most.
const BODY_BYTES = 256 << 10;
// The largest expected difference between the clocks that record steps.
const MAX_CLOCK_SKEW_MS = 600_000;

export function message(page, { topic, broker, queue, offset, lite_topic: lite }) {
  const place = { broker, queue, offset, lite_topic: lite, max: 1, bodies: 'base64', max_body: BODY_BYTES };
  const suffix = lite === undefined ? '' : `?${new URLSearchParams({ lite_topic: lite })}`;
  const go = (offset) => page.navigate(route`/messages/${topic}/${broker}/${queue}/${offset}` + suffix);
  const at = Number(offset);
  let next = at + 1;
  let loaded = false;
  const load = once(async () => {
    const { messages: [message] } = await get(path`/v1/topics/${topic}/messages`, { query: place, signal: page.signal });
    if (message === undefined) throw new Problem(404, `Queue ${queue} has no message at offset ${offset} or later.`);
    const body = await bodyView(message);
    // The message may have a later offset than the address, if that offset is no longer stored.
    next = message.offset + 1;
    loaded = true;
    return { message, body };
  });
  const found = panel({
    title: 'Message',
    actions: [
      button('Previous in the queue', () => go(at - 1), { disabled: !(at > 0) }),
      button('Next in the queue', () => go(next)),
    ],
    load,
    show: ({ message, body }) => [
      message.offset !== at && h('p', { class: 'warning' }, `Offset ${offset} is no longer stored. This is the next message, at offset ${message.offset}.`),
      definitionList([
        ['Id', h('span', { class: 'name' }, message.message_id)],
        ['Topic', link(route`/topics/${message.topic}`, message.topic, { class: 'name' })],
        ['Queue', `${message.queue_id} of ${message.broker}`],
        ['Offset', message.offset],
        ['Stored', time(message.stored_at)],
        ['Created', message.born_at && time(message.born_at)],
        ['Sender', message.born_host],
        ['Tag', message.tag],
        ['Keys', (message.keys ?? []).join(', ')],
        ['Message group', message.message_group],
        ['Delivered at', message.deliver_at && time(message.deliver_at)],
        ['Priority', message.priority],
        ['Lite topic', message.lite_topic],
        ['Trace', message.trace_parent],
        ['Encoding', message.content_encoding],
        ['Original topic', message.dead_letter && link(route`/messages/${message.dead_letter.topic}?id=${message.dead_letter.message_id}`, message.dead_letter.topic)],
        ['Original id', message.dead_letter && h('span', { class: 'name' }, message.dead_letter.message_id)],
      ]),
      h('h3', {}, 'Body'),
      body,
      message.properties && [h('h3', {}, 'Properties'), properties(message.properties)],
    ],
  });
  const steps = table({
    caption: 'Steps of the message',
    empty: 'Nothing was recorded. The configuration says which topics and users are traced (message_trace).',
    columns: [
      { title: 'When', by: (event) => event.at, cell: (event) => time(event.at) },
      { title: 'What', by: (event) => event.step, cell: (event) => event.step.replaceAll(/[-_]/g, ' ') },
      { title: 'Attempt', numeric: true, cell: (event) => (event.attempt > 0 ? event.attempt : '') },
      { title: 'Group', by: (event) => event.group, cell: (event) => event.group && link(route`/groups/${event.group}`, event.group, { class: 'name' }) },
      { title: 'Client', by: (event) => event.client, cell: (event) => h('div', { class: 'wide name' }, event.client) },
      { title: 'Address', by: (event) => event.address, cell: (event) => h('span', { class: 'name' }, event.address) },
      { title: 'Took', numeric: true, by: (event) => event.cost_ms, cell: (event) => `${count(event.cost_ms)} ms` },
      { title: 'Result', cell: (event) => h('div', { class: 'wide' }, event.result) },
    ],
  });
  const trace = panel({
    title: 'Trace',
    load: async () => {
      const { message: { message_id: id, born_at: born, stored_at: stored } } = await load();
      const begin = Math.min(Date.parse(born ?? stored), Date.parse(stored)) - MAX_CLOCK_SKEW_MS;
      const query = { from: new Date(Math.max(0, begin)).toISOString() };
      try {
        return await get(path`/v1/messages/${id}/trace`, { query, signal: page.signal });
      } catch (error) {
        // The trace topic does not exist: nothing was ever traced.
        if (error instanceof Problem && error.status === 404) return { events: [], complete: true };
        throw error;
      }
    },
    show: ({ events, complete }) => [
      !complete && h('p', { class: 'warning' }, 'There are too many records to search all of them.'),
      steps.show(events),
    ],
  });
  return {
    title: `Offset ${offset} of queue ${queue}`,
    parent: [route`/messages/${topic}` + suffix, lite === undefined ? topic : `${topic}, ${lite}`],
    content: [found.element, trace.element],
    // A stored message does not change. Its trace may, but the search is too expensive for automatic refreshes.
    refresh: async ({ automatic }) => {
      if (!loaded) await Promise.all([found.refresh(), trace.refresh()]);
      else if (!automatic) await trace.refresh();
    },
  };
}

function properties(properties) {
  const line = ([name, value]) => h('tr', {}, h('th', { scope: 'row', class: 'name' }, name), h('td', { class: 'wide mono' }, value));
  return h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Properties' },
    h('table', {}, h('caption', { class: 'hidden' }, 'Properties'), h('tbody', {}, Object.entries(properties).map(line))));
}

// Memoizes an asynchronous function after its first success.
function once(work) {
  let done = null;
  return () => {
    done ??= work().catch((error) => {
      done = null;
      throw error;
    });
    return done;
  };
}
