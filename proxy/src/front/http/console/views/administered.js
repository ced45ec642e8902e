// What a topic and a group have in common for administrators: settings that can be changed, and being deleted.

import { call, get } from '../api.js';
import { confirm } from '../dialog.js';
import { button, panel } from '../dom.js';

// The settings at an address, with a button that changes them. `show` draws them, and `change` asks for others and tells
// whether they were changed.
export function settingsPanel(page, { at, show, change }) {
  let current;
  const changing = button('Change', async () => {
    if (await change(current)) page.tell('The settings were changed.');
    settings.refresh();
  }, { disabled: true });
  const settings = panel({
    title: 'Settings',
    actions: [changing],
    load: () => get(at, { signal: page.signal }),
    show: (answer) => {
      current = answer;
      changing.disabled = false;
      return show(answer);
    },
  });
  return settings;
}

// A button that deletes what is at an address, once its name is typed in. `kind` says what it is, `loses` what is lost with it,
// and `back` which view is shown then.
export function deleteButton(page, { at, kind, name, loses, back }) {
  const remove = () => confirm({
    title: `Delete the ${kind}?`,
    text: `${loses} This can’t be undone.`,
    name,
    action: 'Delete',
    carryOut: async () => {
      await call('DELETE', at);
      page.tell(`The ${kind} ${name} was deleted.`);
      page.go(back);
    },
  });
  return button('Delete', remove, { class: 'danger' });
}
