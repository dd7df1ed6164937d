import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import type { NpmPackage } from './npm-packages.ts';

/** Names under which packages bring the text of their licence. */
export const LICENCE_FILE = /^(licen[cs]e|copying|notice)/i;

/** Texts of the licences that packages declare and do not bring, by SPDX identifier. Apache-2.0 is the project's own. */
const TEXTS: Readonly<Record<string, string>> = {
  'Apache-2.0': '../LICENSE',
  'BSD-3-Clause': 'texts/BSD-3-Clause.txt',
  ISC: 'texts/ISC.txt',
  MIT: 'texts/MIT.txt',
};

/** The text of a package's licence: its own files, or that of the licence that it declares, with its author's name. */
function licenceText(project: string, one: NpmPackage): string {
  const folder = path.join(project, one.place);
  const files = readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isFile() && LICENCE_FILE.test(entry.name))
    .map((entry) => entry.name)
    .sort();
  if (files.length > 0) return files.map((name) => readFileSync(path.join(folder, name), 'utf8').trim()).join('\n\n');
  const known = TEXTS[one.license ?? ''];
  if (known === undefined)
    throw new Error(
      `${one.name} ${one.version} brings no text of its licence (${one.license ?? 'none declared'}): add it to container-image/texts`,
    );
  const text = readFileSync(path.join(import.meta.dirname, known), 'utf8').trim();
  return `(The package brings no text; this is the one of ${one.license}, which it declares.)\nCopyright (c) ${one.author ?? `the authors of ${one.name}`}\n\n${text}`;
}

/** One document of all: each text once, below the packages that it is of. */
export function licencesDocument(project: string, packages: readonly NpmPackage[]): string {
  const byText = new Map<string, string[]>();
  for (const one of packages) {
    const text = licenceText(project, one).replaceAll('\r\n', '\n');
    byText.set(text, [...(byText.get(text) ?? []), `${one.name} ${one.version} (${one.license ?? 'see below'})`]);
  }
  const rule = '='.repeat(80);
  const parts = [...byText].map(([text, names]) => `${rule}\n${[...new Set(names)].join('\n')}\n${rule}\n\n${text}\n`);
  return `${HEADER}\n${parts.join('\n')}`;
}

const HEADER = `Licences of the npm packages in this image. exhibit itself is under the Apache License 2.0 (/opt/exhibit/LICENSE).
Node.js and what is linked into it: /nodejs/LICENSE. Packages of Debian: /usr/share/doc/PACKAGE/copyright.
The bill of materials, SPDX 2.3 with all of these: /opt/exhibit/sbom.spdx.json.
`;
