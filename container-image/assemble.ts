/**
 * Puts together what the container image holds, in its build stage: `node container-image/assemble.ts TARGET` makes
 * `TARGET/packages` and `TARGET/exhibit`, two layers over the same root folder. Compiles nothing and asks no network.
 */
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';

const HOME = 'opt/exhibit';

/** What runs, and the manifests whose lines `exhibit doctor` names. */
const PARTS = ['package.json', 'LICENSE', 'agent', 'cli', 'controller', 'evidence', 'proto', 'manifests/base'];

/** Where the base image has Node: there is neither a shell nor env(1) to find it. */
const INTERPRETER = '#!/nodejs/bin/node';

function main(target: string): void {
  const source = path.resolve(import.meta.dirname, '..');
  const packages = path.join(target, 'packages', HOME);
  const exhibit = path.join(target, 'exhibit', HOME);
  cpSync(path.join(source, 'node_modules'), path.join(packages, 'node_modules'), { recursive: true });
  for (const part of PARTS.filter((name) => existsSync(path.join(source, name))))
    cpSync(path.join(source, part), path.join(exhibit, part), { recursive: true });
  installCommand(path.join(target, 'exhibit'));
}

/** `exhibit` on the PATH: the kernel starts it by its first line, which names Node where the image has it. */
function installCommand(root: string): void {
  const program = path.join(root, HOME, 'cli/main.ts');
  const text = readFileSync(program, 'utf8');
  writeFileSync(program, text.replace(/^#!.*/, INTERPRETER));
  chmodSync(program, 0o755);
  const folder = path.join(root, 'usr/local/bin');
  mkdirSync(folder, { recursive: true });
  symlinkSync(`/${HOME}/cli/main.ts`, path.join(folder, 'exhibit'));
}

const target = process.argv[2];
if (target === undefined) throw new Error('usage: node container-image/assemble.ts TARGET');
main(path.resolve(target));
