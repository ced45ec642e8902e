// Tables with sorting, filtering and paging, which are retained when the rows are replaced.

import { button, h, replace } from './dom.js';

const PAGE = 50;

// Creates a table. A column has a `title` and a `cell` (a row -> text or node). A sortable column has `by` (a row -> number or
// text). `numeric` columns are aligned to the right. `filter` returns the text of a row that the filter matches.
export function table({ caption, columns, filter, empty = 'There is nothing here.', sort = null }) {
  const state = { rows: [], sort, descending: false, page: 0, text: '' };
  const body = h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': caption });
  const pager = h('div', { class: 'pager' });
  const search = h('input', {
    type: 'search',
    placeholder: 'Filter',
    'aria-label': `Filter: ${caption}`,
    oninput: () => {
      state.text = search.value.trim().toLowerCase();
      state.page = 0;
      draw();
    },
  });
  const element = h('div', { class: 'table' }, filter && search, body, pager);

  function sortedRows() {
    const rows = state.text === '' ? [...state.rows] : state.rows.filter((row) => filter(row).toLowerCase().includes(state.text));
    const column = columns.find((column) => column.title === state.sort);
    if (!column) return rows;
    const sign = state.descending ? -1 : 1;
    return rows.sort((a, b) => sign * compare(column.by(a), column.by(b)));
  }

  function head(column) {
    if (!column.by) return h('th', { scope: 'col', class: column.numeric && 'number' }, column.title);
    const sorted = state.sort === column.title;
    const direction = state.descending ? 'descending' : 'ascending';
    const choose = () => {
      // Numbers are first sorted in descending order.
      state.descending = sorted ? !state.descending : column.numeric === true;
      state.sort = column.title;
      draw();
    };
    const arrow = sorted && h('span', { class: 'arrow', 'aria-hidden': 'true' }, state.descending ? '▾' : '▴');
    return h(
      'th',
      { scope: 'col', class: column.numeric && 'number', 'aria-sort': sorted ? direction : undefined },
      button([column.title, arrow], choose, { class: 'sort', 'data-key': `sort ${column.title}` }),
    );
  }

  function draw() {
    const rows = sortedRows();
    const last = Math.max(0, Math.ceil(rows.length / PAGE) - 1);
    state.page = Math.min(state.page, last);
    const shown = rows.slice(state.page * PAGE, (state.page + 1) * PAGE);
    const line = (row) => h('tr', {}, columns.map((column, index) =>
      index === 0
        ? h('th', { scope: 'row' }, column.cell(row))
        : h('td', { class: column.numeric && 'number' }, column.cell(row))));
    replace(
      body,
      shown.length === 0
        ? h('p', { class: 'quiet' }, state.text === '' ? empty : 'Nothing matches the filter.')
        : h('table', {}, h('caption', { class: 'hidden' }, caption), h('thead', {}, h('tr', {}, columns.map(head))), h('tbody', {}, shown.map(line))),
    );
    const turn = (to) => () => {
      state.page = to;
      draw();
    };
    replace(
      pager,
      last > 0 && [
        button('Previous', turn(state.page - 1), { disabled: state.page === 0, 'data-key': 'previous' }),
        h('span', { role: 'status' }, `${state.page * PAGE + 1}–${state.page * PAGE + shown.length} of ${rows.length}`),
        button('Next', turn(state.page + 1), { disabled: state.page === last, 'data-key': 'next' }),
      ],
    );
  }

  return {
    element,
    // Replaces the rows, and returns the element.
    show(rows) {
      state.rows = rows;
      draw();
      return element;
    },
  };
}

function compare(a, b) {
  if (a === b) return 0;
  // Missing values come first in ascending order.
  if (a === undefined || a === null) return -1;
  if (b === undefined || b === null) return 1;
  return a < b ? -1 : 1;
}
