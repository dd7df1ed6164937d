import { createHash } from 'node:crypto';
import type { NpmPackage } from './npm-packages.ts';
import type { DebianPackage, NodeRuntime } from './runtime.ts';

/** What the bill of materials is made of. */
export interface Contents {
  exhibit: { version: string; source: string; dependsOn: readonly string[] };
  npm: readonly NpmPackage[];
  debian: readonly DebianPackage[];
  node: NodeRuntime;
  created: Date;
}

/** The subset of SPDX 2.3 (ISO/IEC 5962, chapter 7 on packages) that is written. */
interface SpdxPackage {
  SPDXID: string;
  name: string;
  versionInfo: string;
  downloadLocation: string;
  filesAnalyzed: false;
  licenseConcluded: string;
  licenseDeclared: string;
  copyrightText: string;
  licenseComments?: string;
  primaryPackagePurpose?: 'APPLICATION' | 'LIBRARY' | 'FRAMEWORK';
  supplier?: string;
  checksums?: { algorithm: 'SHA1' | 'SHA256' | 'SHA384' | 'SHA512'; checksumValue: string }[];
  externalRefs?: { referenceCategory: 'PACKAGE-MANAGER'; referenceType: 'purl'; referenceLocator: string }[];
}

interface Relationship {
  spdxElementId: string;
  relationshipType: 'DESCRIBES' | 'DEPENDS_ON' | 'CONTAINS';
  relatedSpdxElement: string;
}

const NONE = 'NOASSERTION';
const EXHIBIT = 'SPDXRef-exhibit';
const NODE = 'SPDXRef-node';

/** SPDX 2.3, clause 3.2: identifiers are letters, digits, dots and dashes. */
const idOf = (kind: string, name: string): string => `SPDXRef-${kind}-${name.replaceAll(/[^A-Za-z0-9.-]/g, '-')}`;

/** A folder is one package; two versions of one name are in two folders. */
const npmId = (place: string): string => idOf('npm', place.replaceAll('node_modules/', ''));

/** Licence expressions of SPDX 2.3, annex D; what is none of them is said to be unknown. */
const isExpression = (text: string): boolean =>
  /^[A-Za-z0-9.+() -]+$/.test(text) && !/^(SEE|UNLICEN[SC]ED)\b/.test(text);

/** The document, with sorted packages: the same contents give the same bytes, but for the time that `created` is. */
export function spdxDocument(contents: Contents): object {
  const packages = [exhibitPackage(contents), nodePackage(contents.node), ...componentPackages(contents.node)];
  packages.push(...contents.debian.map(debianPackage), ...contents.npm.map(npmPackage));
  const name = `exhibit-${contents.exhibit.version}`;
  const digest = createHash('sha256').update(JSON.stringify(packages)).digest('hex').slice(0, 32);
  return {
    spdxVersion: 'SPDX-2.3',
    dataLicense: 'CC0-1.0',
    SPDXID: 'SPDXRef-DOCUMENT',
    name,
    documentNamespace: `https://spdx.org/spdxdocs/${name}-${digest}`,
    creationInfo: {
      // The format has whole seconds.
      created: `${contents.created.toISOString().slice(0, 19)}Z`,
      creators: [`Tool: exhibit-container-image-${contents.exhibit.version}`],
    },
    packages,
    relationships: relationships(contents),
    hasExtractedLicensingInfos: [
      extracted('node', 'Licences of Node.js and of what is linked into it', contents.node.license),
      ...contents.debian.map(({ name: of, copyright }) =>
        extracted(`debian-${of}`, `Copyright file of Debian's package ${of}`, copyright),
      ),
    ],
  };
}

const licenceRef = (name: string): string => idOf('x', name).replace('SPDXRef-x-', 'LicenseRef-').replaceAll('+', '-');

const extracted = (name: string, title: string, extractedText: string) => ({
  licenseId: licenceRef(name),
  name: title,
  extractedText,
});

const purl = (referenceLocator: string): Pick<SpdxPackage, 'externalRefs'> => ({
  externalRefs: [{ referenceCategory: 'PACKAGE-MANAGER', referenceType: 'purl', referenceLocator }],
});

const base = (SPDXID: string, name: string, versionInfo: string) => ({
  SPDXID,
  name,
  versionInfo,
  downloadLocation: NONE,
  filesAnalyzed: false as const,
  licenseConcluded: NONE,
  licenseDeclared: NONE,
  copyrightText: NONE,
});

function exhibitPackage({ exhibit }: Contents): SpdxPackage {
  const known = /^[a-z+]+:\/\//.test(exhibit.source);
  return {
    ...base(EXHIBIT, 'exhibit', exhibit.version),
    ...(known ? { downloadLocation: exhibit.source } : {}),
    licenseDeclared: 'Apache-2.0',
    primaryPackagePurpose: 'APPLICATION',
    ...purl(`pkg:generic/exhibit@${exhibit.version}`),
  };
}

function nodePackage({ version }: NodeRuntime): SpdxPackage {
  return {
    ...base(NODE, 'node', version),
    downloadLocation: `https://nodejs.org/dist/v${version}/`,
    licenseDeclared: licenceRef('node'),
    licenseComments: 'The text is in /nodejs/LICENSE.',
    primaryPackagePurpose: 'FRAMEWORK',
    ...purl(`pkg:github/nodejs/node@v${version}`),
  };
}

function componentPackages({ components }: NodeRuntime): SpdxPackage[] {
  return components.map(([name, version]) => ({
    ...base(idOf('node', name), name, version),
    licenseComments: 'Linked into Node.js; the text is in /nodejs/LICENSE.',
    primaryPackagePurpose: 'LIBRARY',
    ...purl(`pkg:generic/${name}@${encodeURIComponent(version)}`),
  }));
}

function debianPackage({ name, version, architecture }: DebianPackage): SpdxPackage {
  return {
    ...base(idOf('deb', name), name, version),
    licenseDeclared: licenceRef(`debian-${name}`),
    licenseComments: `The text is in /usr/share/doc/${name}/copyright.`,
    supplier: 'Organization: Debian',
    ...purl(`pkg:deb/debian/${encodeURIComponent(name)}@${encodeURIComponent(version)}?arch=${architecture}`),
  };
}

function npmPackage(one: NpmPackage): SpdxPackage {
  const file = one.name.slice(one.name.indexOf('/') + 1);
  const checksum = one.integrity === undefined ? undefined : integrityChecksum(one.integrity);
  return {
    ...base(npmId(one.place), one.name, one.version),
    downloadLocation: `https://registry.npmjs.org/${one.name}/-/${file}-${one.version}.tgz`,
    ...(one.license !== undefined && isExpression(one.license) ? { licenseDeclared: one.license } : {}),
    licenseComments: 'The text is in /opt/exhibit/licences.txt.',
    primaryPackagePurpose: 'LIBRARY',
    ...(checksum === undefined ? {} : { checksums: [checksum] }),
    ...purl(`pkg:npm/${one.name.replace('@', '%40')}@${one.version}`),
  };
}

/** Subresource integrity is `ALGORITHM-BASE64`; SPDX has the bytes in hexadecimal. */
function integrityChecksum(integrity: string): NonNullable<SpdxPackage['checksums']>[number] {
  const [, algorithm, base64 = ''] = /^(sha(?:1|256|384|512))-([A-Za-z0-9+/=]+)$/.exec(integrity) ?? [];
  if (algorithm === undefined) throw new Error(`no digest that SPDX knows: ${integrity}`);
  return {
    algorithm: algorithm.toUpperCase() as 'SHA512',
    checksumValue: Buffer.from(base64, 'base64').toString('hex'),
  };
}

function relationships({ exhibit, npm, debian, node }: Contents): Relationship[] {
  const relate = (spdxElementId: string, relationshipType: Relationship['relationshipType']) => (id: string) => ({
    spdxElementId,
    relationshipType,
    relatedSpdxElement: id,
  });
  return [
    relate('SPDXRef-DOCUMENT', 'DESCRIBES')(EXHIBIT),
    ...[NODE, ...debian.map(({ name }) => idOf('deb', name)), ...npm.map(({ place }) => npmId(place))].map(
      relate(EXHIBIT, 'CONTAINS'),
    ),
    ...node.components.map(([name]) => idOf('node', name)).map(relate(NODE, 'CONTAINS')),
    ...exhibit.dependsOn.map(npmId).map(relate(EXHIBIT, 'DEPENDS_ON')),
    ...npm.flatMap((one) => one.dependsOn.map(npmId).map(relate(npmId(one.place), 'DEPENDS_ON'))),
  ];
}
