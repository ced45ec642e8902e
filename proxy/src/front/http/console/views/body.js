// Bodies of messages: as text where they are text, and as bytes.

import { button, h, replace } from '../dom.js';
import { bytes as size } from '../format.js';

const SHORT = 120;
const ROW = 16;
const HEX_BYTES = 4096;
// What a compressed body may become.
const MAX_UNPACKED = 1 << 20;
// How long it may become by indentation.
const MAX_FORMATTED = 4 << 20;
const JSON_TOKENS = /"(?:[^"\\]|\\.)*"|[[\]{},:]|[^\s[\]{},:"]+/g;

export function decode(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

// The text, or null if it is none. A body that was cut may end within a character.
function text(bytes, isCut) {
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes, { stream: isCut });
    return /[\0-\x08\x0e-\x1f]/.test(text) ? null : text;
  } catch {
    return null;
  }
}

// JSON with indentation, or null if it is none. Numbers and names stay as they were sent: to parse and print them would
// round long numbers, and leave out names that are there twice.
function json(text) {
  try {
    JSON.parse(text);
  } catch {
    return null;
  }
  let formatted = '';
  let depth = 0;
  let before = '';
  for (const [token] of text.matchAll(JSON_TOKENS)) {
    const closes = token === '}' || token === ']';
    const opened = before === '{' || before === '[';
    if (closes) depth -= 1;
    if (closes ? !opened : opened || before === ',') formatted += `\n${'  '.repeat(depth)}`;
    formatted += token === ':' ? ': ' : token;
    if (token === '{' || token === '[') depth += 1;
    if (formatted.length > MAX_FORMATTED) return null;
    before = token;
  }
  return formatted;
}

// The beginning of a body, on one line.
export function shortText(message) {
  if (message.content_encoding) return message.content_encoding;
  const bytes = decode(message.body ?? '');
  const read = text(bytes, message.body_bytes > bytes.length);
  if (read === null) return [...bytes.slice(0, ROW)].map(hex).join(' ') + (bytes.length > ROW ? ' …' : '');
  const line = read.replace(/\s+/g, ' ');
  return line.length > SHORT ? `${line.slice(0, SHORT)}…` : line;
}

const hex = (byte) => byte.toString(16).padStart(2, '0');

function hexDump(bytes) {
  const lines = [];
  for (let at = 0; at < Math.min(bytes.length, HEX_BYTES); at += ROW) {
    const row = [...bytes.slice(at, at + ROW)];
    const shown = row.map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '.')).join('');
    lines.push(`${at.toString(16).padStart(6, '0')}  ${row.map(hex).join(' ').padEnd(ROW * 3)} ${shown}`);
  }
  if (bytes.length > HEX_BYTES) lines.push(`… and ${size(bytes.length - HEX_BYTES)} more`);
  return lines.join('\n');
}

// A body that can be looked at in the ways that suit it.
export async function bodyOf(message) {
  const sent = decode(message.body ?? '');
  const isCut = message.body_bytes > sent.length;
  const unpacked = message.content_encoding === 'gzip' && !isCut ? await unpack(sent) : null;
  const plain = text(unpacked ?? sent, isCut);
  const formatted = plain !== null && !isCut ? json(plain) : null;
  const ways = [
    formatted !== null && ['JSON', () => formatted, ''],
    plain !== null && ['Text', () => plain, ''],
    ['Bytes', () => hexDump(sent), ' hex'],
  ].filter((way) => way !== false);
  const content = h('div', {});
  const show = ([name, render, style]) => {
    for (const choice of choices) choice.setAttribute('aria-pressed', String(choice.textContent === name));
    replace(content, h('pre', { class: `body${style}`, tabindex: '0', role: 'region', 'aria-label': 'Body' }, render()));
  };
  const choices = ways.map((way) => button(way[0], () => show(way)));
  show(ways[0]);
  const note = [size(message.body_bytes), isCut && `the first ${size(sent.length)} are shown`, unpacked && `unpacked: ${size(unpacked.length)}`];
  return [
    h('div', { class: 'panel-head' },
      h('span', { class: 'choice', role: 'group', 'aria-label': 'Show the body as' }, choices),
      h('span', { class: 'quiet' }, note.filter(Boolean).join(', '))),
    content,
  ];
}

// Unpacks what was compressed, as long as it is not too much. Null if it can't be.
async function unpack(bytes) {
  const reader = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip')).getReader();
  const parts = [];
  let length = 0;
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      parts.push(part.value);
      length += part.value.length;
      if (length > MAX_UNPACKED) {
        await reader.cancel();
        return null;
      }
    }
  } catch {
    return null;
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}
