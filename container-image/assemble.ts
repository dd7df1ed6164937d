/**
 * Puts together what the container image holds, in its build stage: `node container-image/assemble.ts BASE TARGET`. BASE holds what
 * was copied of the runtime's base: `status.d`, `doc` and `nodejs`. Makes `TARGET/packages` and `TARGET/exhibit`, two layers over the
 * same root folder. Compiles nothing and asks no network; given SOURCE_DATE_EPOCH, the same sources give the same files.
 */
import {
  chmodSync,
  cpSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { licencesDocument } from './licences.ts';
import { isNeverLoaded } from './never-loaded.ts';
import { readJson, readNpmPackages, resolvePlaces } from './npm-packages.ts';
import { readDebianPackages, readNode } from './runtime.ts';
import { spdxDocument } from './sbom.ts';

const HOME = 'opt/exhibit';

/** What runs, and the manifests whose lines `exhibit doctor` names. */
const PARTS = ['package.json', 'LICENSE', 'agent', 'cli', 'controller', 'evidence', 'proto', 'manifests/base'];

/** Where the base image has Node: there is neither a shell nor env(1) to find it. */
const INTERPRETER = '#!/nodejs/bin/node';

const PROJECT = path.resolve(import.meta.dirname, '..');

function main(base: string, target: string, env: NodeJS.ProcessEnv): void {
  const [packages, exhibit] = [path.join(target, 'packages'), path.join(target, 'exhibit')];
  const created = timeOf(env.SOURCE_DATE_EPOCH);
  copyPackages(path.join(packages, HOME));
  for (const part of PARTS) cpSync(path.join(PROJECT, part), path.join(exhibit, HOME, part), { recursive: true });
  installCommand(exhibit);
  describeContents(base, path.join(exhibit, HOME), created, env.SOURCE ?? '');
  for (const layer of [packages, exhibit]) setTimes(layer, created);
}

/** reproducible-builds.org: whole seconds since the epoch; the build argument is empty where nobody gives it. */
function timeOf(sourceDateEpoch = ''): Date {
  if (sourceDateEpoch === '') return new Date();
  if (!/^\d{1,11}$/.test(sourceDateEpoch))
    throw new Error(`SOURCE_DATE_EPOCH is ${JSON.stringify(sourceDateEpoch)}, and not a number of whole seconds`);
  return new Date(Number(sourceDateEpoch) * 1000);
}

function copyPackages(home: string): void {
  const source = path.join(PROJECT, 'node_modules');
  cpSync(source, path.join(home, 'node_modules'), {
    recursive: true,
    filter: (from) => {
      const inside = from.slice(from.lastIndexOf('/node_modules/') + '/node_modules/'.length);
      const place = inside.replace(/^(@[^/]+\/)?[^/]+\/?/, '');
      if (from === source || place === '') return !/\/node_modules\/\.bin$/.test(from);
      return !isNeverLoaded(place, lstatSync(from).isDirectory());
    },
  });
}

/** `exhibit` on the PATH: the kernel starts it by its first line, which names Node where the image has it. */
function installCommand(root: string): void {
  const program = path.join(root, HOME, 'cli/main.ts');
  writeFileSync(program, readFileSync(program, 'utf8').replace(/^#!.*/, INTERPRETER));
  chmodSync(program, 0o755);
  const folder = path.join(root, 'usr/local/bin');
  mkdirSync(folder, { recursive: true });
  symlinkSync(`/${HOME}/cli/main.ts`, path.join(folder, 'exhibit'));
}

function describeContents(base: string, home: string, created: Date, source: string): void {
  const npm = readNpmPackages(PROJECT);
  const { version, dependencies } = readJson(path.join(PROJECT, 'package.json'));
  const direct = Object.keys(dependencies as Record<string, string>);
  const dependsOn = resolvePlaces('', direct, new Set(npm.map(({ place }) => place)));
  const document = spdxDocument({
    exhibit: { version: String(version), source, dependsOn },
    npm,
    debian: readDebianPackages(base),
    node: readNode(base),
    created,
  });
  writeFileSync(path.join(home, 'sbom.spdx.json'), `${JSON.stringify(document, null, 1)}\n`);
  writeFileSync(path.join(home, 'licences.txt'), licencesDocument(PROJECT, npm));
}

/** One time for all: builds of the same sources differ in nothing else. */
function setTimes(root: string, time: Date): void {
  const below = readdirSync(root, { recursive: true, encoding: 'utf8' }).map((name) => path.join(root, name));
  for (const file of [...below, root]) lutimesSync(file, time, time);
}

const [base, target] = process.argv.slice(2);
if (base === undefined || target === undefined) throw new Error('usage: node container-image/assemble.ts BASE TARGET');
main(path.resolve(base), path.resolve(target), process.env);
