// Starts a merged proxy for the tests of one file. $ROCKETMQ_THIN_PROXY is the path of its binary.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** Starts a proxy that ends with the file's tests. Returns its address. */
export async function startProxy() {
  const data = mkdtempSync(join(tmpdir(), 'rocketmq-thin-'));
  const options = ['--listen', '127.0.0.1:0', '--data-dir', data];
  const proxy = spawn(process.env.ROCKETMQ_THIN_PROXY, options, { stdio: ['ignore', 'pipe', 'ignore'] });
  after(async () => {
    proxy.kill('SIGKILL');
    await once(proxy, 'close');
    rmSync(data, { recursive: true });
  });
  const [line] = await once(createInterface({ input: proxy.stdout }), 'line');
  return line.replace('listening on ', '');
}

let count = 0;

/** Returns the name of a topic or group that no other test uses. */
export function name() {
  return `node-${process.pid}-${++count}`;
}

/** Returns the error that the promise rejects with. If it resolves, the test fails. */
export async function rejection(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error('the promise was resolved');
}

/** Collects objects that nothing refers to, except in the call stack of the caller. */
export async function collectGarbage() {
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc');
  for (let turn = 0; turn < 10; turn++) {
    await new Promise(setImmediate);
    gc();
  }
}

/** Runs a program in a new Node process until it ends. Returns its exit code and its output. */
export async function run(program, ...args) {
  const options = ['--input-type=module', '--eval', program, '--', ...args];
  const child = spawn(process.execPath, options, { cwd: import.meta.dirname, stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  child.stdout.on('data', (data) => (output += data));
  const [code] = await once(child, 'close');
  return { code, output };
}
