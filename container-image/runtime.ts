import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';

/** A package of Debian in the base image. */
export interface DebianPackage {
  name: string;
  version: string;
  architecture: string;
  /** Text of its copyright file, which Debian's policy asks of every package. */
  copyright: string;
}

/** The Node of the base image. */
export interface NodeRuntime {
  version: string;
  /** Name and version of the libraries that are linked into it. */
  components: readonly (readonly [name: string, version: string])[];
  license: string;
}

/** What process.versions tells beside libraries: versions of interfaces and of data. Of what is not linked it tells nothing. */
const NOT_LIBRARIES = new Set(['node', 'modules', 'napi', 'cldr', 'tz', 'unicode']);

/** distroless keeps the control file of each package in a file of its own; `root` holds what was copied of the base. */
export function readDebianPackages(root: string): DebianPackage[] {
  const folder = path.join(root, 'status.d');
  return readdirSync(folder)
    .filter((name) => !name.endsWith('.md5sums'))
    .sort()
    .map((file) => readControl(root, readFileSync(path.join(folder, file), 'utf8'), file));
}

function readControl(root: string, control: string, file: string): DebianPackage {
  const field = (name: string): string => {
    const value = new RegExp(`^${name}: *(.+)$`, 'm').exec(control)?.[1];
    if (value === undefined) throw new Error(`${file} of the base image has no field ${name}`);
    return value;
  };
  const name = field('Package');
  return {
    name,
    version: field('Version'),
    architecture: field('Architecture'),
    copyright: readFileSync(path.join(root, 'doc', name, 'copyright'), 'utf8'),
  };
}

/** Asks the program itself: what it says is what is there. */
export function readNode(root: string): NodeRuntime {
  const answer = execFileSync(path.join(root, 'nodejs/bin/node'), ['-p', 'JSON.stringify(process.versions)'], {
    encoding: 'utf8',
  });
  const versions = JSON.parse(answer) as Record<string, string>;
  return {
    version: versions.node ?? 'unknown',
    components: Object.entries(versions)
      .filter(([name, version]) => !NOT_LIBRARIES.has(name) && version !== '')
      .sort(([a], [b]) => (a < b ? -1 : 1)),
    license: readFileSync(path.join(root, 'nodejs/LICENSE'), 'utf8'),
  };
}
