// Creates elements. Data from the proxy is always inserted as text, never as HTML.

import { Problem } from './api.js';

const SVG = 'http://www.w3.org/2000/svg';

// Creates an element with attributes, event listeners such as `onclick`, and children: nodes, texts, and nested lists of them.
// Attributes and children that are `null`, `undefined` or `false` are left out.
export function h(tag, attributes = {}, ...children) {
  return build(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return build(document.createElementNS(SVG, tag), attributes, children);
}

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) {
      element.addEventListener(name.slice(2), value);
    } else if (name === 'href' && !value.startsWith('#')) {
      throw new Error(`links must stay within the console: ${value}`);
    } else if (name === 'value' || name === 'checked' || name === 'selected') {
      element[name] = value;
    } else {
      element.setAttribute(name, value === true ? '' : value);
    }
  }
  element.append(...flatten(children));
  return element;
}

// Flattens nested children, without those that are left out.
function flatten(children) {
  return children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false);
}

// Replaces the content of an element. The focus moves to the new element with the same `data-key`, id or link.
export function replace(element, ...children) {
  const active = element.contains(document.activeElement) ? document.activeElement : null;
  const key = active && keyOf(active);
  element.replaceChildren(...flatten(children));
  if (!key) return;
  const again = [...element.querySelectorAll('[data-key], [id], a[href]')].find((other) => keyOf(other) === key);
  again?.focus({ preventScroll: true });
}

function keyOf(element) {
  return element.dataset.key || element.id || element.getAttribute('href');
}

// Creates a link within the console.
export function link(route, text, attributes = {}) {
  return h('a', { href: `#${route}`, ...attributes }, text);
}

// A template tag for routes. Each value is encoded as one segment.
export function route(texts, ...values) {
  return texts.reduce((joined, text, index) => joined + encodeURIComponent(values[index - 1]) + text);
}

export function button(text, onclick, attributes = {}) {
  return h('button', { type: 'button', onclick, ...attributes }, text);
}

// Creates a list of terms with values. Terms without a value are left out.
export function definitionList(entries) {
  const given = entries.filter(([, value]) => value !== undefined && value !== null && value !== '');
  return h('dl', { class: 'facts' }, given.map(([term, value]) => h('div', {}, h('dt', {}, term), h('dd', {}, value))));
}

export function problem(error) {
  return h('p', { class: 'problem', role: 'alert' }, error.message);
}

// Creates a part of a view that loads its own data, and shows problems with them in its place.
export function panel({ title, actions = [], load, show, plain = false }) {
  const content = h('div', {}, h('p', { class: 'quiet' }, 'Loading…'));
  const heading = title && h('h2', {}, title);
  const head = (heading || actions.length > 0) && h('div', { class: 'panel-head' }, heading, h('div', { class: 'actions' }, actions));
  const element = h('section', { class: plain ? 'plain' : 'panel', 'aria-label': title }, head, content);
  let refreshes = 0;
  async function refresh() {
    refreshes += 1;
    const current = refreshes;
    element.setAttribute('aria-busy', 'true');
    let shown;
    try {
      const answer = await load();
      // A later refresh may have been faster.
      if (current !== refreshes) return;
      shown = show(answer);
    } catch (error) {
      if (error.name === 'AbortError') return;
      if (!(error instanceof Problem)) throw error;
      shown = problem(error);
    } finally {
      if (current === refreshes) element.removeAttribute('aria-busy');
    }
    if (current === refreshes) replace(content, shown);
  }
  return { element, refresh };
}
