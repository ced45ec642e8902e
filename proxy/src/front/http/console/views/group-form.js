// The dialogs that create a group, change its settings, and reset its offsets.

import { Problem, call, path } from '../api.js';
import { askValues } from '../dialog.js';
import { changes } from './topic-form.js';

const EXPONENTIAL = /^(.+?)\s+to\s+(.+?)\s+by\s+([\d.]+)$/;

// Formats delays as a text that `parseDelays` reads.
export function formatDelays(retry) {
  if (retry === undefined) return undefined;
  return Array.isArray(retry) ? retry.join(', ') : `${retry.initial} to ${retry.max} by ${retry.multiplier}`;
}

function parseDelays(text) {
  if (text === undefined) return undefined;
  const exponential = EXPONENTIAL.exec(text);
  if (exponential) return { initial: exponential[1], max: exponential[2], multiplier: Number(exponential[3]) };
  return text.split(',').map((delay) => delay.trim());
}

function specs(group) {
  return [
    { name: 'fifo', label: 'In order within a message group', type: 'check', value: group.fifo },
    { name: 'consume', label: 'May consume', type: 'check', value: group.consume },
    { name: 'max_retries', label: 'Redeliveries', type: 'number', min: 0, value: group.max_retries, hint: 'Afterwards, a message becomes a dead letter.' },
    { name: 'retry', label: 'Delays between deliveries', value: formatDelays(group.retry), placeholder: '1s, 5s, … 2h', hint: 'such as 1s, 30s, 5m, or exponential: 5s to 2h by 2' },
    { name: 'start', label: 'Start in a new topic', value: group.start, placeholder: 'default of RocketMQ', hint: 'earliest, latest, or a time such as 2026-11-29T10:00:00Z' },
    { name: 'lite_bind_topic', label: 'Bound to the lite topic', value: group.lite_bind_topic },
    { name: 'lite_quota', label: 'Most lite topics of a client', type: 'number', min: 0, value: group.lite_quota },
    { name: 'lite_exclusive', label: 'One subscriber per lite topic', type: 'check', value: group.lite_exclusive },
  ];
}

const toBody = (values) => ({ ...values, retry: parseDelays(values.retry) });

export function createGroup(done) {
  return askValues({
    title: 'New consumer group',
    specs: [{ name: 'name', label: 'Name', required: true }, ...specs({ consume: true })],
    action: 'Create',
    onSubmit: async (values) => {
      await call('POST', '/v1/groups', { body: toBody(values) });
      done(values.name);
    },
  });
}

export function changeGroup(group) {
  return askValues({
    title: `Settings of ${group.name}`,
    specs: specs(group),
    action: 'Save',
    onSubmit: (values) => {
      if (group.start !== undefined) values.start ??= 'default';
      const changed = changes(group, toBody(values));
      if (Object.values(changed).includes(null)) throw new Problem(0, 'Settings of a group can’t be removed, only changed.');
      return call('PATCH', path`/v1/groups/${group.name}`, { body: changed });
    },
  });
}

const POSITIONS = [
  ['latest', 'the end: skip all stored messages'], ['earliest', 'the beginning: deliver all messages again'], ['time', 'a time'], ['offset', 'an offset of one queue'],
];

export function resetGroup(group, topics) {
  return askValues({
    title: `Move ${group}`,
    text: 'Messages before the new position count as consumed. Later ones are delivered again. Consumers can no longer settle the deliveries that they hold now.',
    specs: [
      { name: 'topic', label: 'Topic', type: 'select', options: topics.map((topic) => [topic, topic]), required: true },
      { name: 'to', label: 'To', type: 'select', options: POSITIONS },
      { name: 'time', label: 'Time', type: 'time', hint: 'with “a time”' },
      { name: 'queue', label: 'Queue', type: 'number', min: 0, hint: 'with “an offset”' },
      { name: 'broker', label: 'Broker', hint: 'with “an offset”, if several brokers have this queue' },
      { name: 'offset', label: 'Offset', type: 'number', min: 0, hint: 'with “an offset”' },
    ],
    action: 'Move',
    onSubmit: (values) => call('POST', path`/v1/groups/${group}/reset`, { body: { topic: values.topic, to: resetTarget(values) } }),
  });
}

function resetTarget({ to, time, queue, broker, offset }) {
  if (to === 'time') {
    if (time === undefined) throw new Problem(0, 'Enter a time.');
    return time;
  }
  if (to !== 'offset') return to;
  if (queue === undefined || offset === undefined) throw new Problem(0, 'Enter a queue and an offset.');
  return { broker, queue_id: queue, offset };
}
