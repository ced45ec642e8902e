// Makes elements. Whatever comes from the proxy becomes text here, never HTML.

import { Problem } from './api.js';

const SVG = 'http://www.w3.org/2000/svg';

// An element with attributes, listeners (`onclick`) and children: nodes, texts, and nested lists of them. `null`,
// `undefined` and `false` are left out.
export function h(tag, attributes = {}, ...children) {
  return made(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return made(document.createElementNS(SVG, tag), attributes, children);
}

function made(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) {
      element.addEventListener(name.slice(2), value);
    } else if (name === 'href' && !value.startsWith('#')) {
      throw new Error(`links lead within the console, not to ${value}`);
    } else if (name === 'value' || name === 'checked' || name === 'selected') {
      element[name] = value;
    } else {
      element.setAttribute(name, value === true ? '' : value);
    }
  }
  element.append(...given(children));
  return element;
}

// The children that are there, in one list.
function given(children) {
  return children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false);
}

// Puts other content into an element. The focus stays on what has the same `data-key`, id or link.
export function replace(element, ...children) {
  const active = element.contains(document.activeElement) ? document.activeElement : null;
  const key = active && keyOf(active);
  element.replaceChildren(...given(children));
  if (!key) return;
  const again = [...element.querySelectorAll('[data-key], [id], a[href]')].find((other) => keyOf(other) === key);
  again?.focus({ preventScroll: true });
}

function keyOf(element) {
  return element.dataset.key || element.id || element.getAttribute('href');
}

// A link within the console.
export function link(route, text, attributes = {}) {
  return h('a', { href: `#${route}`, ...attributes }, text);
}

// The address of a view, with each value as one segment.
export function route(texts, ...values) {
  return texts.reduce((joined, text, index) => joined + encodeURIComponent(values[index - 1]) + text);
}

export function button(text, onclick, attributes = {}) {
  return h('button', { type: 'button', onclick, ...attributes }, text);
}

// Terms and what they are. Those without a value are left out.
export function facts(entries) {
  const given = entries.filter(([, value]) => value !== undefined && value !== null && value !== '');
  return h('dl', { class: 'facts' }, given.map(([term, value]) => h('div', {}, h('dt', {}, term), h('dd', {}, value))));
}

export function problem(error) {
  return h('p', { class: 'problem', role: 'alert' }, error.message);
}

// A part of a view that loads its own data, and shows what is wrong with that in its own place.
export function panel({ title, actions = [], load, show, plain = false }) {
  const content = h('div', {}, h('p', { class: 'quiet' }, 'Loading…'));
  const heading = title && h('h2', {}, title);
  const head = (heading || actions.length > 0) && h('div', { class: 'panel-head' }, heading, h('div', { class: 'actions' }, actions));
  const element = h('section', { class: plain ? 'plain' : 'panel', 'aria-label': title }, head, content);
  let turn = 0;
  async function refresh() {
    turn += 1;
    const mine = turn;
    element.setAttribute('aria-busy', 'true');
    let shown;
    try {
      const answer = await load();
      // A later one may have been faster.
      if (mine !== turn) return;
      shown = show(answer);
    } catch (error) {
      if (error.name === 'AbortError') return;
      if (!(error instanceof Problem)) throw error;
      shown = problem(error);
    } finally {
      if (mine === turn) element.removeAttribute('aria-busy');
    }
    if (mine === turn) replace(content, shown);
  }
  return { element, refresh };
}
