import { LICENCE_FILE } from './licences.ts';

/** Folders at the top of a package that hold nothing that a program loads. */
const FOLDERS = new Set([
  'test',
  'tests',
  '__tests__',
  'benchmark',
  'benchmarks',
  'example',
  'examples',
  'docs',
  '.github',
]);

/** Declarations and sources of types (Node strips none below node_modules), maps, sources of C, prose. */
const FILES =
  /\.([cm]?ts|map|md|markdown|c|cc|cpp|h|hh|hpp|inl|S|asm|def|gyp|gypi|ya?ml|flow|tsbuildinfo)$|^\.(npm|git|eslint|prettier)/;

/** Binaries for another C library than the base image's: koffi brings those of both. */
const OTHER_LIBC = /^musl_/;

/**
 * True for what no program loads of an installed package: more than half of the bytes. `place` is the path of a
 * file or folder inside of its package, with slashes. Licences always stay.
 */
export function isNeverLoaded(place: string, isFolder: boolean): boolean {
  const name = place.slice(place.lastIndexOf('/') + 1);
  if (isFolder) return FOLDERS.has(place) || OTHER_LIBC.test(name);
  return FILES.test(name) && !LICENCE_FILE.test(name);
}
