// Shows bodies of messages: as JSON, as text, and as bytes.

import { button, h, replace } from '../dom.js';
import { bytes as size } from '../format.js';

const PREVIEW_LENGTH = 120;
const BYTES_PER_ROW = 16;
const HEX_BYTES = 4096;
// The maximum size of a decompressed body, in bytes.
const MAX_DECOMPRESSED = 1 << 20;
// The maximum number of characters of formatted JSON.
const MAX_FORMATTED = 4 << 20;
const JSON_TOKENS = /"(?:[^"\\]|\\.)*"|[[\]{},:]|[^\s[\]{},:"]+/g;

export function decode(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

// The text of a body, or null if it is not text. A truncated body may end within a character.
function text(bytes, isTruncated) {
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes, { stream: isTruncated });
    return /[\0-\x08\x0e-\x1f]/.test(text) ? null : text;
  } catch {
    return null;
  }
}

// Formats JSON with indentation, or returns null if the text is not JSON. The tokens stay unchanged: parsing and printing would
// round long numbers, and drop repeated names.
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

// A preview of a body on one line.
export function shortText(message) {
  if (message.content_encoding) return message.content_encoding;
  const bytes = decode(message.body ?? '');
  const read = text(bytes, message.body_bytes > bytes.length);
  if (read === null) return [...bytes.slice(0, BYTES_PER_ROW)].map(hex).join(' ') + (bytes.length > BYTES_PER_ROW ? ' …' : '');
  const line = read.replace(/\s+/g, ' ');
  return line.length > PREVIEW_LENGTH ? `${line.slice(0, PREVIEW_LENGTH)}…` : line;
}

const hex = (byte) => byte.toString(16).padStart(2, '0');

function hexDump(bytes) {
  const lines = [];
  for (let at = 0; at < Math.min(bytes.length, HEX_BYTES); at += BYTES_PER_ROW) {
    const row = [...bytes.slice(at, at + BYTES_PER_ROW)];
    const shown = row.map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '.')).join('');
    lines.push(`${at.toString(16).padStart(6, '0')}  ${row.map(hex).join(' ').padEnd(BYTES_PER_ROW * 3)} ${shown}`);
  }
  if (bytes.length > HEX_BYTES) lines.push(`… and ${size(bytes.length - HEX_BYTES)} more`);
  return lines.join('\n');
}

// A view of a body, with a choice of the formats that suit it.
export async function bodyView(message) {
  const sent = decode(message.body ?? '');
  const isTruncated = message.body_bytes > sent.length;
  const decompressed = message.content_encoding === 'gzip' && !isTruncated ? await decompress(sent) : null;
  const plain = text(decompressed ?? sent, isTruncated);
  const formatted = plain !== null && !isTruncated ? json(plain) : null;
  const formats = [
    formatted !== null && ['JSON', () => formatted, ''],
    plain !== null && ['Text', () => plain, ''],
    ['Bytes', () => hexDump(sent), ' hex'],
  ].filter((format) => format !== false);
  const content = h('div', {});
  const show = ([name, render, style]) => {
    for (const choice of choices) choice.setAttribute('aria-pressed', String(choice.textContent === name));
    replace(content, h('pre', { class: `body${style}`, tabindex: '0', role: 'region', 'aria-label': 'Body' }, render()));
  };
  const choices = formats.map((format) => button(format[0], () => show(format)));
  show(formats[0]);
  const note = [size(message.body_bytes), isTruncated && `the first ${size(sent.length)} are shown`, decompressed && `decompressed: ${size(decompressed.length)}`];
  return [
    h('div', { class: 'panel-head' },
      h('span', { class: 'choice', role: 'group', 'aria-label': 'Show the body as' }, choices),
      h('span', { class: 'quiet' }, note.filter(Boolean).join(', '))),
    content,
  ];
}

// Decompresses gzip. Resolves to null if the data are malformed or too large.
async function decompress(bytes) {
  const reader = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip')).getReader();
  const parts = [];
  let length = 0;
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      parts.push(part.value);
      length += part.value.length;
      if (length > MAX_DECOMPRESSED) {
        await reader.cancel();
        return null;
      }
    }
  } catch {
    return null;
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}
