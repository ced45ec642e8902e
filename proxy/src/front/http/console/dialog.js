// Dialogs: messages, confirmations and forms.

import { Problem } from './api.js';
import { button, h, problem, replace } from './dom.js';
import { fields } from './form.js';

// Opens a dialog with a form. Resolves to whether `onSubmit` succeeded. If it fails with a problem, the dialog shows the problem
// and stays open. `onSubmit` gets a signal that is aborted when the dialog is closed early.
function openDialog({ title, content, action, danger = false, cancel = true, onSubmit }) {
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
            await onSubmit(closed.signal);
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

// Shows content until the dialog is closed. Resolves then.
export function inform({ title, content }) {
  return openDialog({ title, content, action: 'Close', cancel: false, onSubmit: async () => {} });
}

// Asks for a confirmation. With `name`, the name must be typed first.
export function confirm({ title, text, action, name, danger = true, onSubmit }) {
  const typed = name !== undefined && h('input', { type: 'text', autocomplete: 'off', spellcheck: 'false', required: true });
  const content = [
    h('p', {}, text),
    typed && h('label', {}, h('span', {}, 'Type ', h('strong', { class: 'name' }, name), ' to confirm'), typed),
  ];
  const check = async (closed) => {
    if (typed && typed.value !== name) throw new Problem(0, 'The name does not match.');
    await onSubmit(closed);
  };
  return openDialog({ title, content, action, danger, onSubmit: check });
}

// Asks for values. `specs` are the specifications of `fields`. `onSubmit` gets the values by name, and the signal.
export function askValues({ title, text, specs, action, onSubmit }) {
  const form = fields(specs);
  const content = [text && h('p', {}, text), h('div', { class: 'fields' }, form.elements)];
  return openDialog({ title, content, action, onSubmit: (closed) => onSubmit(form.values(), closed) });
}
