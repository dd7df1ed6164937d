import type { Command } from 'commander';
import type { BundleReader } from '../../evidence/bundle.ts';
import { ExhibitError } from '../../evidence/error.ts';
import { isTar } from '../../evidence/layout.ts';
import type { Digest, Manifest, StoredObject } from '../../evidence/manifest.ts';
import type { ListedMember } from '../../evidence/members.ts';
import {
  type BundleOptions,
  EndsEarly,
  openBundle,
  readContent,
  readManifest,
  readMembers,
  takesBundle,
} from '../bundle.ts';
import { examples, GROUPS, optionsOf } from '../command.ts';
import { chooseObject, describeMember, isMember, withContent } from '../contents.ts';
import { type Destination, openDestination } from '../destination.ts';
import { escapeText, formatBytes, toJson } from '../print.ts';
import type { Session } from '../session.ts';

type Options = BundleOptions & { out?: string; list?: boolean };

/** `exhibit extract BUNDLE ARTIFACT [MEMBER]`: bytes out of a bundle, checked against its manifest on the way. */
export function registerExtract(program: Command, session: Session): void {
  const command = takesBundle(
    program
      .command('extract')
      .description('take an artifact or one member out of a bundle, checked against the manifest')
      .helpGroup(GROUPS.evidence),
  )
    .argument('<artifact>', 'an artifact (processes, memory, …) or an object (inventory.jsonl)')
    .argument('[member]', 'one file of its archive; without it the whole tar or text')
    .option('--out <file|folder>', 'write there instead of to stdout; nothing is overwritten')
    .option('--list', 'list the members with digest, size and type')
    .action(async (bundle: string, artifact: string, member: string | undefined) => {
      await extract(session, bundle, artifact, member, optionsOf<Options>(command));
    });
  examples(command, [
    ['exhibit extract BUNDLE memory --list', 'the cores of a capture'],
    ['exhibit extract BUNDLE memory 4711/core --out core.4711 && gdb -c core.4711', 'one of them, in gdb'],
    ['exhibit extract BUNDLE rootfs | tar -t', 'the changed files'],
    ['exhibit extract BUNDLE inventory.jsonl | jq \'select(.type == "file")\'', 'an object by its own name'],
  ]);
}

async function extract(
  session: Session,
  bundle: string,
  artifact: string,
  member: string | undefined,
  options: Options,
): Promise<void> {
  if (options.list === true && (member !== undefined || options.out !== undefined)) {
    throw new ExhibitError('usage', '--list lists a whole archive on stdout: leave MEMBER and --out away.');
  }
  if (options.json === true && options.list !== true && options.out === undefined) {
    throw new ExhibitError('usage', 'With --json, stdout is for the report: name a file or folder with --out.');
  }
  await using reader = await openBundle(bundle, options, session.signal);
  const manifest = await readManifest(reader, session.signal);
  const { object, others } = chooseObject(manifest, artifact);
  const from: Source = { session, reader, manifest, object };
  if (options.list === true) return await list(from, options);
  if (others.length > 0 && member === undefined && options.json !== true) {
    await session.stderr.write(`exhibit: ${object.name}; ${artifact} also has ${others.join(', ')}\n`);
  }
  await take(from, member, options);
}

interface Source {
  readonly session: Session;
  readonly reader: BundleReader;
  readonly manifest: Manifest;
  readonly object: StoredObject;
}

/** Streamed, for archives of millions of members. */
async function list({ session, reader, manifest, object }: Source, options: Options): Promise<void> {
  if (!isTar(object.mediaType)) throw notAnArchive(object);
  const { stdout, signal } = session;
  const head = { bundle: reader.url, object: object.name };
  if (options.json === true) await stdout.write(`${toJson(head).slice(0, -1)},"members":[`);
  let count = 0;
  for await (const member of readMembers(reader, manifest, object, signal)) {
    if (stdout.hungUp.aborted) return;
    const separator = count === 0 ? '\n' : ',\n';
    await stdout.write(options.json === true ? `${separator}${toJson(member)}` : describeMember(member, escapeText));
    count += 1;
  }
  if (options.json === true) await stdout.write('\n]}\n');
}

/** The bytes to their destination, and the verdict about them. */
async function take(from: Source, wanted: string | undefined, options: Options): Promise<void> {
  const { session, object } = from;
  const listed = wanted === undefined ? undefined : withContent(await findMember(from, wanted));
  const name = listed?.path ?? object.name.replace(/\.zst$/, '');
  await using destination = await openDestination(session, options.out, name);
  const bytes = listed === undefined ? contentOf(from) : memberOf(from, listed);
  const got = await pour(bytes, destination, listed === undefined);
  if (got === undefined) return;
  await destination.commit();
  if (got.early !== undefined) return await concludeEarly(from, destination, got, got.early, options);
  const expected: Expected = listed ?? object.content ?? object.stored;
  const isHashed = expected.sha256 !== undefined;
  const matches = (!isHashed || got.sha256 === expected.sha256) && got.sizeBytes === expected.sizeBytes;
  if (destination.file !== undefined) {
    const report = { object: object.name, member: listed?.path ?? null, file: destination.file, ...got, matches };
    const words = matches
      ? `${formatBytes(got.sizeBytes)} in ${destination.file}, sha256 ${got.sha256}${isHashed ? ' as in the manifest' : COVERED}`
      : '';
    if (options.json === true) await session.stdout.write(`${toJson(report, 2)}\n`);
    else if (words !== '') await session.stdout.write(`${escapeText(words)}\n`);
  }
  if (!matches) throw differs(name, got, expected, destination.file);
}

/** Undefined when the reader of stdout hung up: what was not read cannot be judged. */
async function pour(
  bytes: AsyncIterable<Uint8Array>,
  destination: Destination,
  mayEndEarly: boolean,
): Promise<(Digest & { readonly early?: EndsEarly }) | undefined> {
  const { RunningDigest } = await import('../../evidence/frames.ts');
  const digest = new RunningDigest();
  try {
    for await (const chunk of bytes) {
      if (destination.hungUp.aborted) return undefined;
      digest.update(chunk);
      await destination.write(chunk);
    }
  } catch (error) {
    if (!mayEndEarly || !(error instanceof EndsEarly)) throw error;
    return { ...digest.digest(), early: error };
  }
  return digest.digest();
}

/** All that there is of a truncated object was written: kept, told, and a failure all the same. */
async function concludeEarly(
  { session, object }: Source,
  { file }: Destination,
  { sizeBytes, sha256 }: Digest,
  early: EndsEarly,
  options: Options,
): Promise<never> {
  if (options.json === true && file !== undefined) {
    const report = { object: object.name, member: null, file, sizeBytes, sha256, matches: false };
    await session.stdout.write(`${toJson({ ...report, truncated: object.truncated }, 2)}\n`);
  }
  const where = file === undefined ? 'were written' : `are in ${file}`;
  throw new ExhibitError('bundle-corrupt', `${early.message} The ${sizeBytes} bytes before that ${where}.`);
}

function contentOf({ session, reader, object }: Source): AsyncIterable<Uint8Array> {
  return readContent(reader, object, session.signal);
}

async function findMember({ session, reader, manifest, object }: Source, wanted: string): Promise<ListedMember> {
  if (!isTar(object.mediaType)) throw notAnArchive(object);
  for await (const member of readMembers(reader, manifest, object, session.signal)) {
    if (isMember(member, wanted)) return member;
  }
  throw new ExhibitError('bundle-not-found', `${object.name} has no member ${wanted}: --list shows those it has.`);
}

/** The first member of the archive with this very name; reading stops after it. */
async function* memberOf({ session, reader, object }: Source, listed: ListedMember): AsyncGenerator<Uint8Array> {
  const { readTar } = await import('../../evidence/tar-reader.ts');
  const { pathBytes } = await import('../../evidence/member-path.ts');
  const name = pathBytes(listed);
  for await (const entry of readTar(readContent(reader, object, session.signal))) {
    if (entry.header.path.equals(name)) return yield* entry.body;
  }
  throw new ExhibitError(
    'bundle-corrupt',
    `The manifest lists ${listed.path} and ${object.name} does not have it: run \`exhibit verify\` on this bundle.`,
  );
}

/** Large cores have no digest of their own: docs/format.md. */
const COVERED = "; the manifest has no digest of it alone, `exhibit verify` checks the archive's";

/** What the manifest or a list of members says. */
type Expected = { readonly sha256?: string | undefined; readonly sizeBytes: number };

function notAnArchive(object: StoredObject): ExhibitError {
  return new ExhibitError('usage', `${object.name} is no archive and has no members: leave MEMBER and --list away.`);
}

function differs(name: string, got: Digest, expected: Expected, file: string | undefined): ExhibitError {
  const kept = file === undefined ? 'Do not rely on what was written' : `${file} is kept, do not rely on it`;
  return new ExhibitError(
    'bundle-corrupt',
    `${name} is not what the manifest lists: ${got.sizeBytes} bytes with sha256 ${got.sha256} instead of ` +
      `${expected.sizeBytes} with ${expected.sha256 ?? 'none'}. ${kept}; \`exhibit verify\` says what else differs.`,
  );
}
