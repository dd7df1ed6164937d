import { ExhibitError, isExhibitError } from './error.ts';
import type { ListedMember } from './members.ts';
import type { Seekable } from './seekable.ts';
import { BLOCK_BYTES, paddingAfter } from './tar-header.ts';
import { MAX_META_BYTES, type ParsedHeader, TarParser } from './tar-parser.ts';

/**
 * Where the members of a stored archive are, without reading their content. The manifest lists path and size in archive
 * order, and a member's header is of one length or another (pax records), so positions are computed from the first
 * header's length. They are believed when they end exactly where the archive does, and each header is compared with the
 * list on arrival. When they do not, headers are read one after the other from the start, bodies skipped.
 */
export interface TarIndex {
  /** Names of files, in archive order. */
  readonly paths: readonly string[];
  /** Undefined when there is no such file. Throws ExhibitError `bundle-corrupt`: listed twice, or not where it is listed. */
  find(path: string): Promise<IndexedMember | undefined>;
}

export interface IndexedMember {
  readonly path: string;
  /** Of the content's first byte in the archive. */
  readonly offset: number;
  readonly sizeBytes: number;
}

/** Above: no archive of memory, whose members are a handful a process. */
export const MAX_INDEXED_MEMBERS = 1_000_000;
const MAX_INDEXED_NAME_BYTES = 64 * 1024 * 1024;

type Listed = Pick<ListedMember, 'path' | 'type' | 'sizeBytes'>;

/** Reads the first header and no more. `listed` are the archive's members in its order. */
export async function openTarIndex(
  content: Seekable,
  listed: AsyncIterable<ListedMember> | Iterable<ListedMember>,
): Promise<TarIndex> {
  const { members, byPath } = await gatherMembers(listed);
  const guessed = await guessOffsets(content, members);
  const walk = createWalk(content, members);
  const known = new Map<number, IndexedMember>();
  return {
    paths: [...byPath.keys()],
    async find(path) {
      const index = byPath.get(path);
      const member = index === undefined ? undefined : members[index];
      if (index === undefined) return undefined;
      if (member === undefined) throw corrupt(`two members of the name ${path} are listed`);
      const found = known.get(index) ?? (await arrive(content, member, guessed?.[index])) ?? (await walk(index));
      known.set(index, found);
      return found;
    },
  };
}

/** The member, if it is where it was computed to be. */
async function arrive(content: Seekable, member: Listed, at: number | undefined): Promise<IndexedMember | undefined> {
  if (at === undefined) return undefined;
  const found = await headerAt(content, at).catch((error: unknown) => {
    // No header starts there: the computation was wrong, and the walk will tell what is right.
    if (isExhibitError(error, 'bundle-corrupt')) return undefined;
    throw error;
  });
  if (found === undefined || !agrees(found.header, member)) return undefined;
  return { path: member.path, offset: found.contentAt, sizeBytes: found.header.sizeBytes };
}

/** In place of an index: no member is there. */
const TWICE = -1;

async function gatherMembers(listed: AsyncIterable<ListedMember> | Iterable<ListedMember>) {
  const members: Listed[] = [];
  const byPath = new Map<string, number>();
  let nameBytes = 0;
  for await (const { path, type, sizeBytes } of listed) {
    nameBytes += path.length;
    if (members.length >= MAX_INDEXED_MEMBERS || nameBytes > MAX_INDEXED_NAME_BYTES) {
      throw corrupt(`more members are listed than the ${MAX_INDEXED_MEMBERS} that are looked for`);
    }
    if (type === 'file') byPath.set(path, byPath.has(path) ? TWICE : members.length);
    members.push({ path, type, sizeBytes });
  }
  return { members, byPath };
}

/** Offsets of all headers, if every one is as long as the first; undefined when the archive's end says that they are not. */
async function guessOffsets(content: Seekable, members: readonly Listed[]): Promise<Float64Array | undefined> {
  const first = members.length === 0 ? undefined : await headerAt(content, 0);
  if (first === undefined) return undefined;
  const offsets = new Float64Array(members.length);
  let at = 0;
  for (const [index, { type, sizeBytes }] of members.entries()) {
    offsets[index] = at;
    const bodyBytes = type === 'file' ? sizeBytes : 0;
    at += first.contentAt + bodyBytes + paddingAfter(bodyBytes);
  }
  // Two blocks of zeros end an archive of ours, and nothing follows them.
  return at + 2 * BLOCK_BYTES === content.contentBytes ? offsets : undefined;
}

/** Goes on where it stopped: a member in front of one that was found is remembered. */
function createWalk(content: Seekable, members: readonly Listed[]): (index: number) => Promise<IndexedMember> {
  const walked: IndexedMember[] = [];
  let at = 0;
  return async (index) => {
    while (walked.length <= index) {
      const member = members[walked.length];
      const found = await headerAt(content, at);
      if (member === undefined || found === undefined) throw corrupt('it ends before the last member that is listed');
      if (!agrees(found.header, member)) {
        throw corrupt(`member ${walked.length + 1} is not the one that is listed (${member.path})`);
      }
      walked.push({ path: member.path, offset: found.contentAt, sizeBytes: found.header.sizeBytes });
      at = found.contentAt + found.header.sizeBytes + paddingAfter(found.header.sizeBytes);
    }
    const member = walked[index];
    if (member === undefined || member.offset + member.sizeBytes > content.contentBytes) {
      throw corrupt(`it ends inside member ${index + 1}`);
    }
    return member;
  };
}

function agrees(header: ParsedHeader, member: Listed): boolean {
  const bodyBytes = member.type === 'file' ? member.sizeBytes : 0;
  return header.type === member.type && header.sizeBytes === bodyBytes && header.path.toString('utf8') === member.path;
}

/** The member whose header, or whose extended header, starts at `at`; undefined at the archive's end. */
async function headerAt(
  content: Seekable,
  at: number,
): Promise<{ readonly header: ParsedHeader; readonly contentAt: number } | undefined> {
  const parser = new TarParser();
  // A long name, a link's long name and pax records at most, each bounded by the parser.
  const limit = at + 3 * MAX_META_BYTES;
  for (let next = at; next < limit; next += BLOCK_BYTES) {
    const block = await content.read(next, BLOCK_BYTES);
    if (block.length < BLOCK_BYTES) return undefined;
    if (next === at && block.every((byte) => byte === 0)) return undefined;
    for (const event of parser.push(block)) {
      if (event.kind === 'member') return { header: event.header, contentAt: next + BLOCK_BYTES };
    }
  }
  throw corrupt('a member has headers without end');
}

function corrupt(what: string): ExhibitError {
  return new ExhibitError(
    'bundle-corrupt',
    `The archive does not fit its list: ${what}. Run \`exhibit verify\` on this bundle.`,
  );
}
