// Dialogs: a question before something is deleted, and forms.

import { Problem } from './api.js';
import { button, h, problem, replace } from './dom.js';
import { fields } from './form.js';

// Opens a dialog with a form, and resolves to whether it was carried out. A refusal is shown in it, and it stays open.
// `carryOut` gets a signal that is aborted when it is closed before the end.
function open({ title, content, action, danger = false, cancel = true, carryOut }) {
  return new Promise((resolve) => {
    const failure = h('div', {});
    const submit = h('button', { type: 'submit', class: danger ? 'danger' : 'primary' }, action);
    const closed = new AbortController();
    let done = false;
    const form = h(
      'form',
      {
        onsubmit: async (event) => {
          event.preventDefault();
          submit.disabled = true;
          try {
            await carryOut(closed.signal);
            done = true;
            dialog.close();
          } catch (error) {
            if (!(error instanceof Problem)) throw error;
            replace(failure, problem(error));
          } finally {
            submit.disabled = false;
          }
        },
      },
      h('h2', { id: 'dialog-title' }, title),
      content,
      failure,
      h('div', { class: 'buttons' }, cancel && button('Cancel', () => dialog.close()), submit),
    );
    const dialog = h('dialog', { 'aria-labelledby': 'dialog-title' }, form);
    dialog.addEventListener('close', () => {
      closed.abort();
      dialog.remove();
      resolve(done);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

// Tells something, until it is closed. Resolves then.
export function inform({ title, content }) {
  return open({ title, content, action: 'Close', cancel: false, carryOut: async () => {} });
}

// Asks before something that can't be undone. With `name`, that must be typed first.
export function confirm({ title, text, action, name, danger = true, carryOut }) {
  const typed = name !== undefined && h('input', { type: 'text', autocomplete: 'off', spellcheck: 'false', required: true });
  const content = [
    h('p', {}, text),
    typed && h('label', {}, h('span', {}, 'Type ', h('strong', { class: 'name' }, name), ' to confirm'), typed),
  ];
  const check = async (closed) => {
    if (typed && typed.value !== name) throw new Problem(0, 'That is another name.');
    await carryOut(closed);
  };
  return open({ title, content, action, danger, carryOut: check });
}

// Asks for values. `specs` are those of `fields`; `carryOut` gets the values by name, and the signal.
export function ask({ title, text, specs, action, carryOut }) {
  const form = fields(specs);
  const content = [text && h('p', {}, text), h('div', { class: 'fields' }, form.elements)];
  return open({ title, content, action, carryOut: (closed) => carryOut(form.values(), closed) });
}
