/**
 * Who has every byte? Judges a bundle as it lies in a server by what its manifest says, with nothing of the product but the
 * names of its objects: digests by node:crypto, archives by zstd(1) and GNU tar.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Manifest, RequestRecord, StoredObject } from '../../evidence/manifest.ts';
import type { S3Store } from './s3-store.ts';

const SEAL = 'manifest.dsse.json';
/** Not in the manifest's list: itself, and what is made of it. */
const END = ['manifest.json', SEAL, `${SEAL}.tsr`];

/** What a test put into the target, so that it can be looked for. */
export interface Planted {
  /** In the writable layer, by path without a leading slash: SHA-256 of the content. */
  readonly files: ReadonlyMap<string, string>;
}

export interface Account {
  readonly sealed: boolean;
  readonly manifest: Manifest | undefined;
  /** Of the bytes in the server, by name below the bundle. */
  readonly objects: ReadonlyMap<string, { readonly sha256: string; readonly sizeBytes: number }>;
  /** Objects that the manifest calls cut. */
  readonly cut: readonly string[];
  /** Gaps in all artifacts: `rootfs: rootfs.tar.zst: from byte ...`. */
  readonly gaps: readonly string[];
  /** Planted files that were found whole. */
  readonly found: number;
  /** Everything that does not add up, as sentences. Empty: every byte is accounted for. */
  readonly problems: readonly string[];
}

/** All objects of a bundle with their bytes. `prefix`: the bundle's key, without a slash at its end. */
export async function readBundle(store: S3Store, prefix: string): Promise<Map<string, Buffer>> {
  const bundle = new Map<string, Buffer>();
  for (const { key } of await store.versions(`${prefix}/`)) {
    const name = key.slice(prefix.length + 1);
    if (bundle.has(name)) throw new Error(`${name} has two versions: it was overwritten`);
    const bytes = await store.read(key);
    if (bytes === undefined) throw new Error(`${key} is listed and cannot be read`);
    bundle.set(name, bytes);
  }
  return bundle;
}

/** Puts a bundle into a folder, for `exhibit verify` and other programs. The caller removes it. */
export function writeBundle(bundle: ReadonlyMap<string, Buffer>): string {
  const folder = mkdtempSync(join(tmpdir(), 'exhibit-bundle-'));
  for (const [name, bytes] of bundle) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), bytes);
  }
  return folder;
}

/** `unfinished`: keys with an upload that the server still holds open, and who knows of it, if anybody. */
export function accountFor(
  bundle: ReadonlyMap<string, Buffer>,
  planted: Planted = { files: new Map() },
  unfinished: readonly { readonly key: string; readonly known: boolean }[] = [],
): Account {
  const problems = unfinished.filter(({ known }) => !known).map(({ key }) => `an upload of ${key} is left open`);
  const objects = new Map([...bundle].map(([name, bytes]) => [name, digestOf(bytes)]));
  const manifest = jsonIn<Manifest>(bundle, 'manifest.json');
  const sealed = bundle.has(SEAL);
  if (manifest === undefined || !sealed) {
    const bare = { sealed, manifest, objects, cut: [], gaps: [], found: 0 };
    return { ...bare, problems: [...problems, `the bundle is not sealed: ${[...bundle.keys()].join(' ')}`] };
  }
  problems.push(
    ...wrongObjects(manifest, objects),
    ...wrongArtifacts(manifest, jsonIn<RequestRecord>(bundle, 'request.json')),
    ...wrongSeal(bundle, manifest, objects),
    ...wrongCustody(bundle.get('custody.jsonl')),
  );
  const found = plantedIn(bundle, manifest, planted, problems);
  return {
    sealed,
    manifest,
    objects,
    cut: manifest.objects.filter(({ truncated }) => truncated !== undefined).map(({ name }) => name),
    gaps: manifest.artifacts.flatMap(({ name, gaps }) => gaps.map(({ what, why }) => `${name}: ${what}: ${why}`)),
    found,
    problems,
  };
}

type Digests = Account['objects'];

const digestOf = (bytes: Buffer) => ({
  sha256: createHash('sha256').update(bytes).digest('hex'),
  sizeBytes: bytes.length,
});

function jsonIn<T>(bundle: ReadonlyMap<string, Buffer>, name: string): T | undefined {
  const bytes = bundle.get(name);
  return bytes === undefined ? undefined : (JSON.parse(bytes.toString('utf8')) as T);
}

const lies = ({ name, encryption }: StoredObject): string => (encryption === undefined ? name : `${name}.age`);

/** Listed and there, byte for byte, and the other way round. */
function wrongObjects(manifest: Manifest, objects: Digests): string[] {
  const listed = new Set(manifest.objects.map(lies));
  const strangers = [...objects.keys()].filter((name) => !listed.has(name) && !END.includes(name));
  return [
    ...strangers.map((name) => `${name} is in the bundle, and the manifest does not know it`),
    ...manifest.objects.flatMap((object) => {
      const there = objects.get(lies(object));
      const { sha256, sizeBytes } = object.stored;
      if (there === undefined) return [`${object.name} is reported as stored, and is not there`];
      if (there.sha256 === sha256 && there.sizeBytes === sizeBytes) return [];
      return [`${object.name} is reported with ${sizeBytes} bytes ${sha256}, and has ${JSON.stringify(there)}`];
    }),
  ];
}

/** What was planned and is not whole has a gap or a reason, in words. */
function wrongArtifacts(manifest: Manifest, request: RequestRecord | undefined): string[] {
  if (request === undefined) return ['there is no request.json'];
  const records = new Map(manifest.artifacts.map((record) => [record.name, record]));
  const listed = new Map(manifest.objects.map((object) => [object.name, object]));
  const planned = request.plan.steps.flatMap(({ artifact }) =>
    records.has(artifact) ? [] : [`${artifact} was planned, and the manifest does not speak of it`],
  );
  const owners = new Set(manifest.artifacts.flatMap(({ objects }) => objects));
  const unowned = manifest.objects
    .filter(({ name, truncated }) => truncated !== undefined && !owners.has(name))
    .map(({ name }) => `${name} is cut, and no artifact says so`);
  return [
    ...planned,
    ...unowned,
    ...manifest.artifacts.flatMap(({ name, status, reason, objects, gaps, gapCount }) => {
      const wrong: string[] = [];
      const missing = objects.filter((object) => !listed.has(object));
      if (missing.length > 0) wrong.push(`${name} has objects that are not listed: ${missing.join(' ')}`);
      if (status === 'captured' && gapCount > 0) wrong.push(`${name} is captured, with ${gapCount} gaps`);
      if ((status === 'failed' || status === 'skipped') && reason === undefined && gapCount === 0)
        wrong.push(`${name} is ${status}, and nothing says why`);
      for (const object of objects) {
        if (listed.get(object)?.truncated === undefined) continue;
        if (!gaps.some(({ what, why }) => what.includes(object) && /\d/.test(why)))
          wrong.push(`${object} is cut, and no gap of ${name} says where`);
      }
      return wrong;
    }),
  ];
}

interface Envelope {
  readonly payload: string;
}
interface Statement {
  readonly subject: readonly { readonly name: string; readonly digest: { readonly sha256: string } }[];
}

/** The seal's subjects are the objects that are there, no more and no fewer. */
function wrongSeal(bundle: ReadonlyMap<string, Buffer>, manifest: Manifest, objects: Digests): string[] {
  const envelope = jsonIn<Envelope>(bundle, SEAL);
  const statement: Statement = JSON.parse(Buffer.from(envelope?.payload ?? '', 'base64').toString('utf8'));
  const sealed = new Map(statement.subject.map(({ name, digest }) => [name, digest.sha256]));
  const expected = [...manifest.objects.map(lies)];
  expected.push(objects.has('manifest.json') ? 'manifest.json' : 'manifest.json.age');
  return [
    ...expected
      .filter((name) => sealed.get(name) !== objects.get(name)?.sha256 || !sealed.has(name))
      .map((name) => `the seal has not the digest of ${name}`),
    ...[...sealed.keys()].filter((name) => !expected.includes(name)).map((name) => `the seal vouches for ${name}`),
  ];
}

/** Each line has the digest of the one before it. */
function wrongCustody(log: Buffer | undefined): string[] {
  if (log === undefined) return ['there is no custody.jsonl'];
  let previous = '0'.repeat(64);
  for (const [index, line] of log.toString('utf8').trimEnd().split('\n').entries()) {
    const event: { previous: string; sequence: number } = JSON.parse(line);
    if (event.previous !== previous || event.sequence !== index + 1)
      return [`line ${index + 1} of the log is out of place`];
    previous = createHash('sha256').update(line).digest('hex');
  }
  return [];
}

/** The planted files that are in the layer whole; those that are not must be in a gap. */
function plantedIn(
  bundle: ReadonlyMap<string, Buffer>,
  manifest: Manifest,
  { files }: Planted,
  problems: string[],
): number {
  if (files.size === 0) return 0;
  const rootfs = manifest.artifacts.find(({ name }) => name === 'rootfs');
  const layer = bundle.get('rootfs.tar.zst');
  const digests = layer === undefined ? new Map<string, string>() : digestsInTar(layer, [...files.keys()]);
  let found = 0;
  for (const [path, sha256] of files) {
    if (digests.get(path) === sha256) found += 1;
    else if (rootfs === undefined) problems.push(`${path} is not there, and rootfs is not in the manifest`);
    else if (rootfs.status === 'captured') problems.push(`${path} is not there, and rootfs is called captured`);
    else if (rootfs.gapCount === 0 && rootfs.reason === undefined) problems.push(`${path} is in no gap`);
  }
  return found;
}

/** SHA-256 of members of a compressed tar, as far as it goes: of a cut one, those before the cut. */
function digestsInTar(archive: Buffer, members: readonly string[]): Map<string, string> {
  const tar = spawnSync('zstd', ['-dcq'], { input: archive, maxBuffer: 2 ** 30 }).stdout;
  const folder = mkdtempSync(join(tmpdir(), 'exhibit-layer-'));
  try {
    const digests = new Map<string, string>();
    // GNU tar hands each member to the shell; of the last one of a cut archive it gives what there is.
    const script = 'printf "%s %s\\n" "$(sha256sum | cut -d" " -f1)" "$TAR_FILENAME"';
    const { stdout } = spawnSync('tar', ['-xf', '-', '--to-command', script, ...members], { input: tar, cwd: folder });
    for (const line of stdout.toString().split('\n')) {
      if (line !== '') digests.set(line.slice(65).replace(/^\.\//, ''), line.slice(0, 64));
    }
    return digests;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
