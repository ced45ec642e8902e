// The settings panel and the delete button of a topic or a group.

import { call, get } from '../api.js';
import { confirm } from '../dialog.js';
import { button, panel } from '../dom.js';

// A panel that loads settings from a path of the API, with a button to change them. `show` renders the settings. `change` opens a
// dialog, and resolves to whether the settings were changed.
export function settingsPanel(page, { path, show, change }) {
  let current;
  const changing = button('Change', async () => {
    if (await change(current)) page.notify('The settings were changed.');
    settings.refresh();
  }, { disabled: true });
  const settings = panel({
    title: 'Settings',
    actions: [changing],
    load: () => get(path, { signal: page.signal }),
    show: (answer) => {
      current = answer;
      changing.disabled = false;
      return show(answer);
    },
  });
  return settings;
}

// A button that deletes a resource of the API, after its name was typed. `kind` is the kind of the resource, `consequence` a
// sentence about what is lost, and `back` the route that is shown afterwards.
export function deleteButton(page, { path, kind, name, consequence, back }) {
  const remove = () => confirm({
    title: `Delete the ${kind}?`,
    text: `${consequence} This can’t be undone.`,
    name,
    action: 'Delete',
    onSubmit: async () => {
      await call('DELETE', path);
      page.notify(`The ${kind} ${name} was deleted.`);
      page.navigate(back);
    },
  });
  return button('Delete', remove, { class: 'danger' });
}
