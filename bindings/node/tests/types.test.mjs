// Checks the type declarations with the compiler in its strictest mode.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { before, test } from 'node:test';
import { name, startProxy } from './proxy.mjs';

const HERE = import.meta.dirname;
const COMPILER = join(HERE, 'node_modules', 'typescript', 'bin', 'tsc');

before(() => {
  // The compiler is installed beside this file, and kept for later runs.
  if (!existsSync(COMPILER)) {
    const options = ['install', '--no-audit', '--no-fund', '--no-package-lock', '--prefer-offline'];
    execFileSync('npm', options, { cwd: HERE, stdio: 'ignore' });
  }
});

function compile(file, ...options) {
  const strict = ['--strict', '--exactOptionalPropertyTypes', '--noImplicitReturns', '--skipLibCheck', 'false'];
  const target = ['--module', 'nodenext', '--target', 'es2022', '--lib', 'es2022,esnext.disposable', '--types', 'node'];
  const command = [COMPILER, ...strict, ...target, ...options, file];
  const { status, stdout } = spawnSync(process.execPath, command, { cwd: HERE, encoding: 'utf8' });
  assert.equal(status, 0, stdout);
}

test('a program in TypeScript compiles and runs', async () => {
  compile('usage.mts', '--outDir', 'compiled');
  const command = [join('compiled', 'usage.mjs'), await startProxy(), name()];
  const { status, stdout, stderr } = spawnSync(process.execPath, command, { cwd: HERE, encoding: 'utf8' });
  assert.equal(status, 0, stderr);
  assert.equal(stdout, 'hi\nhi\npushed\nfix the program no code\n');
});

test('CommonJS has the same types', () => {
  compile('usage.cts', '--noEmit');
});

test('nothing is of type any', () => {
  const folder = dirname(createRequire(import.meta.url).resolve('rocketmq-thin'));
  for (const file of readdirSync(folder).filter((each) => each.endsWith('.d.cts'))) {
    const code = readFileSync(join(folder, file), 'utf8').replace(/\/\*[^]*?\*\//g, '');
    assert.doesNotMatch(code, /\bany\b/, file);
  }
});
