import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { licencesDocument } from '../../../container-image/licences.ts';
import { isNeverLoaded } from '../../../container-image/never-loaded.ts';
import { readNpmPackages } from '../../../container-image/npm-packages.ts';
import { spdxDocument } from '../../../container-image/sbom.ts';

const ROOT = path.resolve(import.meta.dirname, '../../..');

interface Lock {
  readonly packages: Readonly<Record<string, { dev?: boolean; optional?: boolean; version?: string; link?: boolean }>>;
}

interface Spdx {
  readonly spdxVersion: string;
  readonly dataLicense: string;
  readonly SPDXID: string;
  readonly name: string;
  readonly documentNamespace: string;
  readonly creationInfo: { readonly created: string; readonly creators: readonly string[] };
  readonly packages: readonly {
    readonly SPDXID: string;
    readonly name: string;
    readonly versionInfo: string;
    readonly downloadLocation: string;
    readonly licenseDeclared: string;
  }[];
  readonly relationships: readonly {
    readonly spdxElementId: string;
    readonly relationshipType: string;
    readonly relatedSpdxElement: string;
  }[];
}

const lock = JSON.parse(readFileSync(path.join(ROOT, 'package-lock.json'), 'utf8')) as Lock;
/** As `npm ci --omit=dev` installs them in the build stage. */
const npm = readNpmPackages(ROOT).filter(({ place }) => lock.packages[place]?.dev !== true);
const document = spdxDocument({
  exhibit: { version: '1.2.3', source: 'https://example.com/exhibit', dependsOn: [] },
  ...{ npm, debian: [], created: new Date(0) },
  node: { version: process.version, components: [], license: 'MIT' },
}) as Spdx;

describe('the bill of materials', () => {
  test('has what SPDX 2.3 asks of a document, its packages and their relations', () => {
    expect(document.spdxVersion).toBe('SPDX-2.3');
    expect(document.dataLicense).toBe('CC0-1.0');
    expect(document.SPDXID).toBe('SPDXRef-DOCUMENT');
    expect(document.documentNamespace).toMatch(/^[a-z]+:[^#]+$/);
    expect(document.creationInfo.created).toBe('1970-01-01T00:00:00Z');
    expect(document.creationInfo.creators.every((one) => /^(Tool|Organization|Person): /.test(one))).toBe(true);
    const ids = document.packages.map(({ SPDXID }) => SPDXID);
    expect(new Set(ids).size).toBe(ids.length);
    for (const one of document.packages) {
      expect(one.SPDXID).toMatch(/^SPDXRef-[A-Za-z0-9.-]+$/);
      expect(one.name.length).toBeGreaterThan(0);
      expect(one.downloadLocation.length).toBeGreaterThan(0);
    }
    const known = new Set(['SPDXRef-DOCUMENT', ...ids]);
    for (const { spdxElementId, relatedSpdxElement } of document.relationships)
      expect([known.has(spdxElementId), known.has(relatedSpdxElement)]).toEqual([true, true]);
    expect(document.relationships.some(({ relationshipType }) => relationshipType === 'DESCRIBES')).toBe(true);
  });

  test('has every package that the lock has for production and this platform, and none for development', () => {
    const listed = new Set(document.packages.map(({ name, versionInfo }) => `${name}@${versionInfo}`));
    const nameOf = (place: string) => place.slice(place.lastIndexOf('node_modules/') + 'node_modules/'.length);
    const entries = Object.entries(lock.packages).filter(([place]) => place !== '');
    const wanted = entries.filter(([, { dev, optional }]) => dev !== true && optional !== true);
    expect(wanted.length).toBeGreaterThan(50);
    expect(wanted.filter(([place, { version }]) => !listed.has(`${nameOf(place)}@${version}`))).toEqual([]);
    expect([...listed].filter((one) => /^(vitest|typescript|@biomejs\/biome)@/.test(one))).toEqual([]);
  });

  test('has the words of a licence for each of them', () => {
    const texts = licencesDocument(ROOT, npm);
    expect(npm.length).toBeGreaterThan(50);
    for (const { name, version } of npm) expect(texts).toContain(`${name} ${version}`);
  });
});

describe('a bill of materials', () => {
  const of = (license: string | undefined, version = '1.0.0') => {
    const one = { place: 'node_modules/a', name: 'a', version, integrity: undefined, author: undefined, dependsOn: [] };
    return spdxDocument({
      exhibit: { version: '1.2.3', source: '', dependsOn: [] },
      ...{ npm: [{ ...one, license }], debian: [], created: new Date(0) },
      node: { version: 'v1', components: [], license: 'MIT' },
    }) as Spdx;
  };
  const declared = (license: string | undefined) =>
    of(license).packages.find(({ name }) => name === 'a')?.licenseDeclared;

  test.each([
    ['(MIT OR Apache-2.0)', '(MIT OR Apache-2.0)'],
    ['GPL-2.0+', 'GPL-2.0+'],
    ['SEE LICENSE IN LICENSE.md', 'NOASSERTION'],
    ['UNLICENSED', 'NOASSERTION'],
    ['MIT, or ask', 'NOASSERTION'],
    [undefined, 'NOASSERTION'],
  ])('says of the licence %j: %s', (license, said) => {
    expect(declared(license)).toBe(said);
  });

  test('has a name of its own for each content, and the same for the same', () => {
    expect(of('MIT').documentNamespace).toBe(of('MIT').documentNamespace);
    expect(of('MIT').documentNamespace).not.toBe(of('MIT', '1.0.1').documentNamespace);
  });
});

describe('what is left out of a package', () => {
  test.each([
    ['test', true],
    ['docs', true],
    ['build/musl_x64', true],
    // A module may be called so.
    ['lib/test', false],
    ['lib', false],
  ])('as a folder: %s, %j', (place, isLeftOut) => {
    expect(isNeverLoaded(place, true)).toBe(isLeftOut);
  });

  test.each(['LICENSE', 'LICENSE.md', 'NOTICE', 'index.js', 'package.json', 'build/linux_x64/koffi.node'])(
    'is never %s',
    (place) => {
      expect(isNeverLoaded(place, false)).toBe(false);
    },
  );

  test.each(['index.d.ts', 'src/a.ts', 'README.md', 'lib/a.js.map'])('is %s', (place) => {
    expect(isNeverLoaded(place, false)).toBe(true);
  });
});
