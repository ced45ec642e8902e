// The quotas of this proxy, with their current rates of refused and delayed requests.

import { call, get, path } from '../api.js';
import { askValues, confirm } from '../dialog.js';
import { button, h, panel } from '../dom.js';
import { bytes, count } from '../format.js';
import { table } from '../table.js';

const LIMITS = [
  ['requests_per_second', 'Requests per second', (limit) => `${count(limit)} requests/s`],
  ['send_messages_per_second', 'Sent messages per second', (limit) => `${count(limit)} sent/s`],
  ['send_bytes_per_second', 'Sent bytes per second', (limit) => `${bytes(limit)} sent/s`],
  ['receive_messages_per_second', 'Received messages per second', (limit) => `${count(limit)} received/s`],
  ['receive_bytes_per_second', 'Received bytes per second', (limit) => `${bytes(limit)} received/s`],
  ['long_polls', 'Concurrent receives and pulls', (limit) => `${count(limit)} long polls`],
  ['requests_in_flight', 'Other concurrent requests', (limit) => `${count(limit)} in flight`],
  ['message_bytes', 'Bytes per message', (limit) => `messages ≤ ${bytes(limit)}`],
];
const SCOPES = ['client', 'user', 'group', 'topic', 'entry'];
const PER = [['client', 'client'], ['address', 'address (IPv6: /64)'], ['user', 'user'], ['group', 'group'], ['topic', 'topic'], ['entry', 'entry: address it listens on'], ['proxy', 'proxy: all together']];
const EXCESS = [['refuse', 'refuse'], ['delay', 'delay']];

// The counts of refused and delayed requests at the previous refresh.
let previous = { at: 0, refused: new Map() };

function withRates(quotas) {
  const at = Date.now();
  const seconds = (at - previous.at) / 1000;
  const rated = quotas.map((quota) => {
    const earlier = previous.refused.get(quota.name);
    const grown = earlier === undefined ? undefined : Math.max(0, quota.refused + quota.delayed - earlier);
    return { ...quota, now: grown === undefined ? undefined : grown / seconds };
  });
  previous = { at, refused: new Map(quotas.map((quota) => [quota.name, quota.refused + quota.delayed])) };
  return rated;
}

function state({ now }) {
  if (now === undefined) return h('span', { class: 'quiet' }, '…');
  return now > 0 ? h('span', { class: 'badge bad' }, `${now.toFixed(1)}/s`) : h('span', { class: 'badge good' }, 'none');
}

function form(quota) {
  const pattern = (name) => ({ name, label: `Only for this ${name}`, value: quota[name], placeholder: '*' });
  return [
    { name: 'name', label: 'Name', required: true, value: quota.name, readonly: quota.name !== undefined },
    { name: 'per', label: 'For each', type: 'select', options: PER, value: quota.per },
    ...SCOPES.map(pattern),
    ...LIMITS.map(([name, label]) => ({ name, label, type: 'number', min: 1, value: quota[name], placeholder: 'no limit' })),
    { name: 'burst', label: 'Burst', value: quota.burst, placeholder: '400ms', hint: 'the amount that the limits allow in this time' },
    { name: 'on_excess', label: 'Requests that exceed it', type: 'select', options: EXCESS, value: quota.on_excess },
    { name: 'max_delay', label: 'Longest delay', value: quota.max_delay, placeholder: '1s', hint: 'with “delay”' },
  ];
}

export function quotas(page) {
  const set = async (title, quota) => {
    const onSubmit = (values) => call('POST', '/v1/quotas', { body: values });
    const text = 'The quota applies at this proxy until its next start. Permanent quotas belong in the configuration.';
    if (await askValues({ title, text, specs: form(quota), action: 'Set', onSubmit })) page.notify('The quota is in force.');
    all.refresh();
  };
  const remove = async (name) => {
    const onSubmit = () => call('DELETE', path`/v1/quotas/${name}`);
    const text = `${name} is removed from this proxy, until its next start.`;
    if (await confirm({ title: 'Remove the quota?', text, action: 'Remove', onSubmit })) page.notify(`The quota ${name} was removed.`);
    all.refresh();
  };
  const list = table({
    caption: 'Quotas',
    empty: 'There are no quotas.',
    filter: (quota) => quota.name,
    sort: 'Quota',
    columns: [
      { title: 'Quota', by: (quota) => quota.name, cell: (quota) => h('span', { class: 'name' }, quota.name) },
      { title: 'For each', by: (quota) => quota.per, cell: (quota) => quota.per },
      { title: 'Only', cell: (quota) => h('div', { class: 'wide' }, SCOPES.filter((name) => quota[name]).map((name) => `${name} ${quota[name]}`).join(', ')) },
      { title: 'Limits', cell: (quota) => h('div', { class: 'wide' }, LIMITS.filter(([name]) => quota[name]).map(([name, , text]) => text(quota[name])).join(', ')) },
      { title: 'Excess', by: (quota) => quota.on_excess, cell: (quota) => (quota.on_excess === 'delay' ? `delayed, ≤ ${quota.max_delay}` : 'refused') },
      { title: 'Refused', numeric: true, by: (quota) => quota.refused, cell: (quota) => count(quota.refused) },
      { title: 'Delayed', numeric: true, by: (quota) => quota.delayed, cell: (quota) => count(quota.delayed) },
      { title: 'Now', by: (quota) => quota.now, cell: state },
      {
        title: 'Actions',
        cell: (quota) => h('div', { class: 'actions' },
          button('Change', () => set(`Quota ${quota.name}`, quota), { 'aria-label': `Change ${quota.name}`, 'data-key': `change ${quota.name}` }),
          button('Remove', () => remove(quota.name), { class: 'danger', 'aria-label': `Remove ${quota.name}`, 'data-key': `remove ${quota.name}` })),
      },
    ],
  });
  const all = panel({
    plain: true,
    load: () => get('/v1/quotas', { signal: page.signal }),
    show: ({ quotas }) => list.show(withRates(quotas)),
  });
  return {
    title: 'Quotas',
    actions: [button('New quota', () => set('New quota', { per: 'client', on_excess: 'refuse' }), { class: 'primary' })],
    content: all.element,
    refresh: all.refresh,
  };
}
