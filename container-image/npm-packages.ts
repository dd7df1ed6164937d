import { readFileSync } from 'node:fs';
import path from 'node:path';

/** One installed package of npm, as its place below node_modules. */
export interface NpmPackage {
  /** Its folder, from the project's: `node_modules/a/node_modules/b`. */
  place: string;
  name: string;
  version: string;
  /** Subresource integrity of the archive that was unpacked, `sha512-BASE64`. */
  integrity: string | undefined;
  /** As the package declares it; undefined where it declares none, or none that is one expression. */
  license: string | undefined;
  author: string | undefined;
  /** Places of what it depends on and what is installed of that. */
  dependsOn: readonly string[];
}

interface LockEntry {
  version: string;
  integrity?: string;
  dependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
  peerDependencies?: Record<string, string>;
}

const MODULES = 'node_modules/';

/**
 * What `npm ci` installed in `project`, sorted by place, from the lock file that npm leaves beside it: that one holds what was
 * unpacked for this platform, with the digests of package-lock.json.
 */
export function readNpmPackages(project: string): NpmPackage[] {
  const { packages } = readJson(path.join(project, 'node_modules/.package-lock.json')) as {
    packages: Record<string, LockEntry>;
  };
  const places = new Set(Object.keys(packages));
  return Object.entries(packages)
    .map(([place, entry]) => describe(project, place, entry, places))
    .sort((a, b) => (a.place < b.place ? -1 : 1));
}

/** Places of the packages that `names` mean for code in the folder `place`. Empty for the project itself. */
export function resolvePlaces(place: string, names: readonly string[], places: ReadonlySet<string>): string[] {
  return names.flatMap((name) => findPlace(place, name, places) ?? []).sort();
}

/** Node's own search: in the package's node_modules, then in those of the folders above. */
function findPlace(place: string, name: string, places: ReadonlySet<string>): string | undefined {
  for (let folder = place; ; folder = folder.slice(0, folder.lastIndexOf(MODULES)).replace(/\/$/, '')) {
    const candidate = folder === '' ? `${MODULES}${name}` : `${folder}/${MODULES}${name}`;
    if (places.has(candidate)) return candidate;
    if (folder === '') return undefined;
  }
}

function describe(project: string, place: string, entry: LockEntry, places: ReadonlySet<string>): NpmPackage {
  const own = readJson(path.join(project, place, 'package.json'));
  const names = [entry.dependencies, entry.optionalDependencies, entry.peerDependencies].flatMap((group) =>
    Object.keys(group ?? {}),
  );
  return {
    place,
    name: place.slice(place.lastIndexOf(MODULES) + MODULES.length),
    version: entry.version,
    integrity: entry.integrity,
    license: textOf(own.license ?? onlyOf(own.licenses), 'type'),
    author: textOf(own.author, 'name'),
    dependsOn: resolvePlaces(place, [...new Set(names)], places),
  };
}

/** Packages of npm's first years declare a list; of two it is not said whether both or either hold. */
function onlyOf(list: unknown): unknown {
  return Array.isArray(list) && list.length === 1 ? list[0] : undefined;
}

/** package.json has some fields as words or as an object with the words in one of its fields. */
function textOf(value: unknown, field: string): string | undefined {
  if (typeof value === 'string') return value;
  if (typeof value !== 'object' || value === null) return undefined;
  const inner = (value as Record<string, unknown>)[field];
  return typeof inner === 'string' ? inner : undefined;
}

export function readJson(file: string): Record<string, unknown> {
  return JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>;
}
