// The installed npm package.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

const installed = createRequire(import.meta.url);
const manifest = installed('rocketmq-thin/package.json');

test('the package has no install scripts and depends only on native packages', () => {
  assert.equal(manifest.scripts, undefined);
  assert.equal(manifest.dependencies, undefined);
  assert.ok(Object.keys(manifest.peerDependencies).every((name) => manifest.peerDependenciesMeta[name].optional));
  assert.ok(Object.keys(manifest.optionalDependencies).every((name) => name.startsWith('@rocketmq-thin/')));
});

test('if the native package is missing, the error says how to install it', () => {
  const folder = mkdtempSync(join(tmpdir(), 'rocketmq-thin-'));
  try {
    const library = join(installed.resolve('rocketmq-thin'), '..');
    copyFileSync(join(library, 'native.cjs'), join(folder, 'native.cjs'));
    const program = `try { require('./native.cjs') } catch ({ message }) { console.log(message) }`;
    const output = execFileSync(process.execPath, ['--eval', program], { cwd: folder, encoding: 'utf8' });
    assert.match(output, /needs @rocketmq-thin\/.+, which does not load: install .* without --omit=optional/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
