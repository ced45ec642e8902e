// Creating a group, changing its settings, and moving it in a topic.

import { Problem, call, path } from '../api.js';
import { ask } from '../dialog.js';
import { changes } from './topic-form.js';

const GROWING = /^(.+?)\s+to\s+(.+?)\s+by\s+([\d.]+)$/;

// Pauses as a text that `pauses` reads.
export function pausesText(retry) {
  if (retry === undefined) return undefined;
  return Array.isArray(retry) ? retry.join(', ') : `${retry.initial} to ${retry.max} by ${retry.multiplier}`;
}

function pauses(text) {
  if (text === undefined) return undefined;
  const growing = GROWING.exec(text);
  if (growing) return { initial: growing[1], max: growing[2], multiplier: Number(growing[3]) };
  return text.split(',').map((pause) => pause.trim());
}

function specs(group) {
  return [
    { name: 'fifo', label: 'In order within a message group', type: 'check', value: group.fifo },
    { name: 'consume', label: 'May consume', type: 'check', value: group.consume },
    { name: 'max_retries', label: 'Deliveries after the first', type: 'number', min: 0, value: group.max_retries, hint: 'Then a message becomes a dead letter.' },
    { name: 'retry', label: 'Pauses between deliveries', value: pausesText(group.retry), placeholder: '1s, 5s, … 2h', hint: 'such as 1s, 30s, 5m, or growing: 5s to 2h by 2' },
    { name: 'start', label: 'Begins in a new topic', value: group.start, placeholder: 'as RocketMQ’s groups', hint: 'earliest, latest, or a time such as 2026-11-29T10:00:00Z' },
    { name: 'lite_bind_topic', label: 'Topic of type lite that it is bound to', value: group.lite_bind_topic },
    { name: 'lite_quota', label: 'Lite topics of a client at most', type: 'number', min: 0, value: group.lite_quota },
    { name: 'lite_exclusive', label: 'A lite topic has one subscriber at a time', type: 'check', value: group.lite_exclusive },
  ];
}

const read = (values) => ({ ...values, retry: pauses(values.retry) });

export function createGroup(done) {
  return ask({
    title: 'New consumer group',
    specs: [{ name: 'name', label: 'Name', required: true }, ...specs({ consume: true })],
    action: 'Create',
    carryOut: async (values) => {
      await call('POST', '/v1/groups', { body: read(values) });
      done(values.name);
    },
  });
}

export function changeGroup(group) {
  return ask({
    title: `Settings of ${group.name}`,
    specs: specs(group),
    action: 'Save',
    carryOut: (values) => {
      if (group.start !== undefined) values.start ??= 'default';
      const changed = changes(group, read(values));
      if (Object.values(changed).includes(null)) throw new Problem(0, 'A setting can be changed, but not removed.');
      return call('PATCH', path`/v1/groups/${group.name}`, { body: changed });
    },
  });
}

const TARGETS = [
  ['latest', 'the end: skip all that is there'], ['earliest', 'the beginning: everything again'], ['time', 'a time'], ['offset', 'an offset of one queue'],
];

export function resetGroup(group, topics) {
  return ask({
    title: `Move ${group}`,
    text: 'Messages before the new position count as consumed, and those after it are delivered again. Consumers can no longer settle what they hold now.',
    specs: [
      { name: 'topic', label: 'Topic', type: 'select', options: topics.map((topic) => [topic, topic]), required: true },
      { name: 'to', label: 'To', type: 'select', options: TARGETS },
      { name: 'time', label: 'Time', type: 'time', hint: 'with “a time”' },
      { name: 'queue', label: 'Queue', type: 'number', min: 0, hint: 'with “an offset”' },
      { name: 'broker', label: 'Broker', hint: 'with “an offset”, where several have such a queue' },
      { name: 'offset', label: 'Offset', type: 'number', min: 0, hint: 'with “an offset”' },
    ],
    action: 'Move',
    carryOut: (values) => call('POST', path`/v1/groups/${group}/reset`, { body: { topic: values.topic, to: target(values) } }),
  });
}

function target({ to, time, queue, broker, offset }) {
  if (to === 'time') {
    if (time === undefined) throw new Problem(0, 'Say which time.');
    return time;
  }
  if (to !== 'offset') return to;
  if (queue === undefined || offset === undefined) throw new Problem(0, 'Say which queue and which offset.');
  return { broker, queue_id: queue, offset };
}
