// The sign-in form, for users of access control.

import { Problem, get, keepSignIn, signIn, signOut } from '../api.js';
import { h, problem, replace } from '../dom.js';
import { fields } from '../form.js';

// Creates the form. `failure` is the problem with earlier credentials, or null. `onSignIn` is called after a successful sign-in.
export function signInForm({ failure, onSignIn }) {
  const { elements, inputs, values } = fields([
    { name: 'user', label: 'Access key', required: true },
    { name: 'secret', label: 'Secret key', type: 'secret', required: true },
    ...(isSecureContext ? [] : [{ name: 'readable', label: 'Send the secret key all the same', type: 'check', required: true }]),
  ]);
  inputs.user.autocomplete = 'username';
  const warning = !isSecureContext && h('p', { class: 'warning' },
    'This connection is not encrypted: others can read the secret key in transit, and change this page. Use https, or a browser on the proxy’s machine.');
  const why = h('div', {}, failure && problem(failure));
  const submit = h('button', { type: 'submit', class: 'primary' }, 'Sign in');
  const form = h('form', {
    onsubmit: async (event) => {
      event.preventDefault();
      submit.disabled = true;
      const { user, secret } = values();
      signIn(user, secret);
      try {
        await get('/v1/clients', { query: { group: '-' } });
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        // The user exists, but may not list clients.
        if (error.status !== 403) {
          signOut();
          replace(why, problem(new Problem(error.status, `Signing in failed: ${error.message}`)));
          inputs.secret.select();
          return;
        }
      } finally {
        submit.disabled = false;
      }
      keepSignIn();
      onSignIn();
    },
  }, elements, why, submit);
  const element = h('section', { class: 'panel sign-in' },
    h('h1', {}, 'Sign in'),
    h('p', { class: 'quiet' }, 'You need a user of the proxy’s access control. The secret key stays in this tab.'),
    warning,
    form);
  return { element, focus: () => inputs.user.focus() };
}
