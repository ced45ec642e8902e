// The dialogs that create a topic and change its settings.

import { call, path } from '../api.js';
import { askValues } from '../dialog.js';

const TYPES = [
  ['normal', 'normal'], ['fifo', 'fifo: in order within a message group'], ['delay', 'delay: delivered at a time'],
  ['transaction', 'transaction'], ['mixed', 'mixed: the ones above'], ['priority', 'priority'], ['lite', 'lite: messages of lite topics'],
];
const PERMISSIONS = [['rw', 'send and receive'], ['r', 'receive'], ['w', 'send'], ['none', 'nothing']];

function specs(topic) {
  // The current type stays available, even if it is not one of these.
  const types = TYPES.some(([type]) => type === topic.type) ? TYPES : [[topic.type, topic.type], ...TYPES];
  return [
    { name: 'type', label: 'Type', type: 'select', options: types, value: topic.type },
    { name: 'queues', label: 'Queues', type: 'number', min: 1, value: topic.queues ?? topic.write_queues, placeholder: '8' },
    { name: 'perm', label: 'Clients may', type: 'select', options: PERMISSIONS, value: topic.perm },
    { name: 'retention', label: 'Keep messages for', value: topic.retention, placeholder: 'as configured', hint: 'such as 12h or 7d' },
    { name: 'retention_bytes', label: 'Keep at most (bytes)', type: 'number', min: 0, value: topic.retention_bytes, placeholder: 'as configured', hint: '0 is no limit' },
    { name: 'lite_expiration', label: 'Keep unused lite topics for', value: topic.lite_expiration, placeholder: 'ever', hint: 'only for the type lite' },
  ];
}

export function createTopic(done) {
  const name = { name: 'name', label: 'Name', required: true };
  return askValues({
    title: 'New topic',
    specs: [name, ...specs({ type: 'normal', perm: 'rw' })],
    action: 'Create',
    onSubmit: async (topic) => {
      await call('POST', '/v1/topics', { body: topic });
      done(topic.name);
    },
  });
}

export function changeTopic(topic) {
  const before = { ...topic, queues: topic.queues ?? topic.write_queues };
  return askValues({
    title: `Settings of ${topic.name}`,
    specs: specs(topic),
    action: 'Save',
    onSubmit: (values) => call('PATCH', path`/v1/topics/${topic.name}`, { body: changes(before, values) }),
  });
}

// The values that differ. A removed value is null.
export function changes(before, values) {
  const changed = Object.entries(values).filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(before[name]));
  return Object.fromEntries(changed.map(([name, value]) => [name, value ?? null]));
}
