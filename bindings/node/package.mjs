// Packs the npm tarballs from what cargo has built:
//
//   node package.mjs --out DIR --binary [PLATFORM=]PATH [--binary ...] [--licenses PATH] [--separate]
//
// Without --separate, it packs a single tarball, rocketmq-thin-VERSION.tgz, which bundles the native packages: it
// installs without a registry on the given platforms. With --separate, it packs tarballs for a registry: one for each
// native package, and one for rocketmq-thin, which has them as optional dependencies, so that npm installs the package
// for the platform.
// --licenses is a file with the licences of the crates in the libraries.
// PLATFORM is for example linux-x64-gnu or darwin-arm64. Its default is the platform of this machine.
// Prints the path of each tarball on a line.

import { execFileSync } from 'node:child_process';
import { copyFileSync, cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const ROOT = join(HERE, '..', '..');

/** The package.json of the checkout, which has no version. */
const source = JSON.parse(readFileSync(join(HERE, 'package.json'), 'utf8'));

/** Returns the version of the project, which Cargo.toml contains. */
function version() {
  const manifest = readFileSync(join(ROOT, 'Cargo.toml'), 'utf8');
  return /^\[workspace\.package\]\nversion = "(.+)"$/m.exec(manifest)[1];
}

/** Returns the platform of this machine, as in the names of the native packages. */
function thisMachine() {
  const { platform, arch, report } = process;
  if (platform !== 'linux') return `${platform}-${arch}`;
  return `${platform}-${arch}-${report.getReport().header.glibcVersionRuntime ? 'gnu' : 'musl'}`;
}

/** Creates a new folder with the files that every package has. */
function stagePackage(folder, manifest) {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`);
  copyFileSync(join(ROOT, 'LICENSE'), join(folder, 'LICENSE'));
}

/** Stages the package with the native library of one platform. Returns the package's name. */
function stageNative(folder, platform, binary) {
  const [os, cpu, abi] = platform.split('-');
  const name = `@rocketmq-thin/${platform}`;
  const description = `The native library of rocketmq-thin for ${platform}`;
  const { author, license, homepage, repository, bugs, engines, publishConfig } = source;
  stagePackage(folder, {
    name,
    version: version(),
    description,
    ...{ author, license, homepage, repository, bugs, engines, publishConfig },
    main: 'rocketmq-thin.node',
    files: ['rocketmq-thin.node', 'THIRD-PARTY-LICENSES.txt'],
    os: [os],
    cpu: [cpu],
    ...(os === 'linux' && { libc: [abi === 'gnu' ? 'glibc' : 'musl'] }),
  });
  copyFileSync(binary, join(folder, 'rocketmq-thin.node'));
  if (values.licenses) copyFileSync(values.licenses, join(folder, 'THIRD-PARTY-LICENSES.txt'));
  const readme = `# ${name}\n\n${description}. Install [rocketmq-thin](${homepage}), which depends on it.\n`;
  writeFileSync(join(folder, 'README.md'), readme);
  return name;
}

/** Stages the package that users install. */
function stageMain(folder, extra) {
  stagePackage(folder, { ...source, version: version(), ...extra });
  cpSync(join(HERE, 'lib'), join(folder, 'lib'), { recursive: true });
  copyFileSync(join(HERE, 'README.md'), join(folder, 'README.md'));
}

function pack(folder, out) {
  const options = ['pack', '--json', '--ignore-scripts', '--pack-destination', out, folder];
  const packed = JSON.parse(execFileSync('npm', options, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] }));
  // Since npm 12, the output is an object whose keys are the packages; before that it is an array.
  const [{ filename }] = Object.values(packed);
  console.log(join(out, filename.replace('@', '').replace('/', '-')));
}

const { values } = parseArgs({
  options: {
    out: { type: 'string' },
    binary: { type: 'string', multiple: true },
    licenses: { type: 'string' },
    separate: { type: 'boolean', default: false },
  },
});
if (!values.out || !values.binary) throw new Error('--out and --binary are required; see the top of this file');

const out = resolve(values.out);
const stage = join(out, 'stage');
const main = join(stage, 'rocketmq-thin');
const names = [];
rmSync(stage, { recursive: true, force: true });
for (const binary of values.binary) {
  const [, platform = thisMachine(), path] = /^(?:([a-z0-9-]+)=)?(.+)$/.exec(binary);
  names.push(stageNative(join(stage, 'npm', platform), platform, path));
}
const optionalDependencies = Object.fromEntries(names.map((name) => [name, version()]));
stageMain(main, { optionalDependencies, ...(!values.separate && { bundleDependencies: names }) });
for (const name of names) {
  const folder = join(stage, 'npm', name.slice(name.indexOf('/') + 1));
  if (values.separate) pack(folder, out);
  else cpSync(folder, join(main, 'node_modules', name), { recursive: true });
}
pack(main, out);
