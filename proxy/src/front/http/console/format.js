// Formats numbers, sizes and times.

import { h } from './dom.js';
import { now } from './api.js';

const NUMBER = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const RATE = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
const SPANS = [['d', 86_400], ['h', 3_600], ['min', 60], ['s', 1]];
// The text for a missing value.
const NONE = '–';

export function count(number) {
  return number === undefined || number === null ? NONE : NUMBER.format(number);
}

export function rate(number) {
  return number === undefined || number === null ? NONE : `${RATE.format(number)}/s`;
}

export function bytes(number) {
  if (number === undefined || number === null) return NONE;
  let unit = 0;
  let value = number;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value.toFixed(unit === 0 || value >= 100 ? 0 : 1)} ${UNITS[unit]}`;
}

// A size that may be an estimate.
export function stored(size) {
  if (!size) return NONE;
  return `${size.estimated ? '≈ ' : ''}${bytes(size.count)}`;
}

// A time in the browser's zone, with the UTC time as title.
export function time(text) {
  if (!text) return NONE;
  return h('time', { datetime: text, title: text }, local(text));
}

function local(text) {
  const at = new Date(text);
  if (Number.isNaN(at.getTime())) return text;
  const two = (number) => String(number).padStart(2, '0');
  const date = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return `${date} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

// The age of a time.
export function age(text) {
  if (!text) return NONE;
  return h('time', { datetime: text, title: `${local(text)} (${text})` }, `${span(now() - Date.parse(text))} ago`);
}

function span(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  const [unit, length] = SPANS.find(([, length]) => seconds >= length) ?? ['s', 1];
  return `${Math.floor(seconds / length)} ${unit}`;
}
