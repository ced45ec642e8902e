// Labelled form fields.

import { h } from './dom.js';

let fieldCount = 0;

// Creates fields. A specification has a `name`, a `label`, a `type` (text, number, time, select, check, secret), a `value`, and a
// `hint`. A text may be `readonly`. `autocomplete` is the attribute of HTML.
export function fields(specs) {
  const all = specs.map((spec) => [spec, field(spec)]);
  return {
    elements: all.map(([, { element }]) => element),
    inputs: Object.fromEntries(all.map(([{ name }, { input }]) => [name, input])),
    // The values by name. The value of an empty field is `undefined`.
    values: () => Object.fromEntries(all.map(([{ name }, { value }]) => [name, value()])),
  };
}

// A time in the format of `datetime-local`: without a zone, in seconds.
function localTime(text) {
  const at = new Date(text ?? NaN);
  if (Number.isNaN(at.getTime())) return '';
  return new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}

function field({ label, type = 'text', value, hint, required, readonly, options = [], min, placeholder, list, autocomplete }) {
  fieldCount += 1;
  const id = `field-${fieldCount}`;
  const described = hint && `${id}-hint`;
  const shared = { id, required, 'aria-describedby': described };
  const text = hint && h('small', { id: described }, hint);
  if (type === 'check') {
    const input = h('input', { ...shared, type: 'checkbox', checked: value === true });
    const element = h('div', { class: 'field check' }, input, h('label', { for: id }, label), text);
    return { element, input, value: () => input.checked };
  }
  let input;
  if (type === 'select') {
    const option = ([key, text]) => h('option', { value: key, selected: key === value }, text);
    input = h('select', shared, options.map(option));
  } else {
    const types = { text: 'text', number: 'number', time: 'datetime-local', secret: 'password' };
    const suggestions = list && `${id}-list`;
    input = h('input', {
      ...shared, readonly, type: types[type], value: type === 'time' ? localTime(value) : value ?? '', min, placeholder, list: suggestions, step: type === 'time' ? 1 : undefined,
      autocomplete: autocomplete ?? (type === 'secret' ? 'current-password' : 'off'), spellcheck: 'false',
    });
    if (list) list.id = suggestions;
  }
  const read = () => {
    if (input.value === '') return undefined;
    if (type === 'number') return Number(input.value);
    return type === 'time' ? new Date(input.value).toISOString() : input.value.trim();
  };
  const element = h('div', { class: 'field' }, h('label', { for: id }, label), input, list, text);
  // Secrets are not trimmed.
  return { element, input, value: type === 'secret' ? () => input.value : read };
}
