// One stored message.

import { Problem, get, path } from '../api.js';
import { button, facts, h, link, panel, route } from '../dom.js';
import { time } from '../format.js';
import { bodyOf } from './body.js';

// The most bytes of a body that are shown.
const BODY_BYTES = 256 << 10;

export function message(page, { topic, broker, queue, offset }) {
  const place = { broker, queue, offset, max: 1, bodies: 'base64', max_body: BODY_BYTES };
  const to = (offset) => () => page.go(route`/messages/${topic}/${broker}/${queue}/${offset}`);
  const at = Number(offset);
  const found = panel({
    title: 'Message',
    actions: [
      button('Previous in the queue', to(at - 1), { disabled: !(at > 0) }),
      button('Next in the queue', to(at + 1)),
    ],
    load: async () => {
      const { messages: [message] } = await get(path`/v1/topics/${topic}/messages`, { query: place, signal: page.signal });
      if (message === undefined) throw new Problem(404, `Queue ${queue} has no message at offset ${offset} or later.`);
      return { message, body: await bodyOf(message) };
    },
    show: ({ message, body }) => [
      message.offset !== at && h('p', { class: 'warning' }, `Offset ${offset} is not stored any more. This is the next message, ${message.offset}.`),
      facts([
        ['Id', h('span', { class: 'name' }, message.message_id)],
        ['Topic', link(route`/topics/${message.topic}`, message.topic, { class: 'name' })],
        ['Queue', `${message.queue_id} of ${message.broker}`],
        ['Offset', message.offset],
        ['Stored', time(message.stored_at)],
        ['Made', message.born_at && time(message.born_at)],
        ['Made at', message.born_host],
        ['Tag', message.tag],
        ['Keys', (message.keys ?? []).join(', ')],
        ['Message group', message.message_group],
        ['Delivered at', message.deliver_at && time(message.deliver_at)],
        ['Priority', message.priority],
        ['Lite topic', message.lite_topic],
        ['Trace', message.trace_parent],
        ['Encoding', message.content_encoding],
        ['Was in', message.dead_letter && link(route`/messages/${message.dead_letter.topic}?id=${message.dead_letter.message_id}`, message.dead_letter.topic)],
        ['Id there', message.dead_letter && h('span', { class: 'name' }, message.dead_letter.message_id)],
      ]),
      h('h3', {}, 'Body'),
      body,
      message.properties && [h('h3', {}, 'Properties'), properties(message.properties)],
    ],
  });
  return {
    title: `Offset ${offset} of queue ${queue}`,
    parent: [route`/messages/${topic}`, topic],
    content: found.element,
    // A stored message does not change.
    refresh: once(found.refresh),
  };
}

function properties(properties) {
  const line = ([name, value]) => h('tr', {}, h('th', { scope: 'row', class: 'name' }, name), h('td', { class: 'wide mono' }, value));
  return h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Properties' },
    h('table', {}, h('caption', { class: 'hidden' }, 'Properties'), h('tbody', {}, Object.entries(properties).map(line))));
}

function once(work) {
  let done;
  return () => {
    done ??= work();
    return done;
  };
}
