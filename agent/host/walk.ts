import { setImmediate } from 'node:timers/promises';
import { errnoOf, explain } from '../../evidence/error.ts';
import { type Directory, type Node, openNode } from './directory.ts';
import { type First, type Listing, listNames } from './listing.ts';
import type { NamesAhead, ReadAhead } from './read-ahead.ts';

/** One thing found. Its descriptor is closed as soon as the next event is asked for. */
export interface Found {
  readonly kind: 'found';
  /** Below the root, without a slash at either end. */
  readonly path: Buffer;
  readonly name: Buffer;
  readonly parent: Directory;
  /** 1 for what lies directly in the root. */
  readonly depth: number;
  readonly node: Node;
  /** For a directory: the walk goes on with something else, and there is no `left` for it. */
  skip(): void;
}

/** All that could be had of a directory has been given; comes after every `found` directory that was not skipped. */
export interface Left {
  readonly kind: 'left';
  readonly path: Buffer;
  /** Absent when it could not be opened. */
  readonly directory: Directory | undefined;
  readonly depth: number;
}

/** Something that cannot be given: one entry, or (some of) the entries of a directory. */
export interface Missed {
  readonly kind: 'missed';
  readonly what: 'entry' | 'entries';
  readonly path: Buffer;
  readonly errno: string | undefined;
  readonly why: string;
}

/** A directory is listed, its entries follow. `keepsAtime` is false when listing may have updated its access time. */
export interface Listed {
  readonly kind: 'listed';
  readonly path: Buffer;
  readonly keepsAtime: boolean;
}

export type WalkEvent = Found | Left | Missed | Listed;

export interface WalkOptions {
  readonly signal: AbortSignal;
  /** Which names of a directory come before its others; `path` is the directory's. */
  readonly first?: (path: Buffer, directory: Directory) => First;
  readonly limits?: Partial<WalkLimits>;
  /** Reads small files before they are given; such a `node` has them as `ahead`. */
  readonly ahead?: ReadAhead;
}

export interface WalkLimits {
  /** Eight times PATH_MAX. Every member name repeats its directories, so a deeper tree could ask for any amount of output. */
  readonly pathBytes: number;
  /**
   * Of the names of all directories from the root to here that are waiting, see `nameBytes`: more than a million of a usual length
   * in one directory, and a quarter of the heap that the agent is started with (environment.ts).
   */
  readonly heldBytes: number;
}

export const WALK_LIMITS: WalkLimits = { pathBytes: 32_768, heldBytes: 64 * 1024 * 1024 };

/** How long entries are given before timers and sockets of the agent get their turn. */
const TURN_MS = 10;

interface Frame {
  readonly path: Buffer;
  /** The path with a slash after it, a character a byte; empty at the root. */
  readonly prefix: string;
  readonly directory: Directory | undefined;
  readonly names: string[];
  /** The same names, for what is read ahead; undefined with the directory. */
  readonly ahead: NamesAhead | undefined;
  /** What the names take. */
  readonly bytes: number;
  next: number;
}

/**
 * Everything below `root` but the root itself: parents before their children, each directory's names in bytewise order
 * (`first` ones before). Nothing is followed, nothing but directories is opened for reading, and file systems mounted
 * inside are not entered. What vanishes or cannot be opened is an event, not an error; throws only when the signal does.
 */
export async function* walk(root: Directory, options: WalkOptions): AsyncGenerator<WalkEvent, void, void> {
  const limits = { ...WALK_LIMITS, ...options.limits };
  const stack: Frame[] = [];
  let held = 0;
  let turnMs = performance.now();
  const enter = async (path: Buffer, directory: Directory): Promise<WalkEvent> => {
    const first = options.first?.(path, directory) ?? (() => false);
    const listing = await listNames(directory, first, { bytes: limits.heldBytes - held });
    held += listing.bytes;
    stack.push(frameOf(path, directory, listing));
    return cutListing(path, listing) ?? { kind: 'listed', path, keepsAtime: listing.keepsAtime };
  };
  const descend = async ({ parent, path, name, node }: Omit<Found, 'depth' | 'skip'>): Promise<WalkEvent> => {
    let event: Missed;
    const why = reasonToStay(parent, node, path, limits);
    try {
      if (why === undefined) return await enter(path, parent.child(name, node));
      event = { kind: 'missed', what: 'entries', path, errno: undefined, why };
    } catch (error) {
      event = missed('entries', path, error);
    }
    stack.push(frameOf(path, undefined, NO_NAMES));
    return event;
  };
  yield await enter(Buffer.alloc(0), root);
  for (let frame = stack.at(-1); frame !== undefined; frame = stack.at(-1)) {
    options.signal.throwIfAborted();
    if (performance.now() - turnMs > TURN_MS) {
      await setImmediate();
      turnMs = performance.now();
    }
    const name = frame.names[frame.next];
    if (name === undefined || frame.directory === undefined) {
      stack.pop();
      held -= frame.bytes;
      if (stack.length > 0) yield { kind: 'left', path: frame.path, directory: frame.directory, depth: stack.length };
      if (stack.length > 0) frame.directory?.close();
      continue;
    }
    const ahead = frame.ahead && options.ahead?.take(frame.ahead, frame.next);
    frame.next += 1;
    const path = Buffer.from(frame.prefix + name, 'latin1');
    const found = look(frame.directory, path, path.subarray(frame.prefix.length), ahead);
    if ('why' in found) {
      yield found;
      continue;
    }
    using node = found.node;
    let skipped = false;
    yield { ...found, depth: stack.length, skip: () => (skipped = true) };
    if (node.kind === 'directory' && !skipped) yield await descend(found);
  }
}

function frameOf(
  path: Buffer,
  directory: Directory | undefined,
  { names, directories, bytes }: Pick<Listing, 'names' | 'directories' | 'bytes'>,
): Frame {
  const prefix = path.length === 0 ? '' : `${path.toString('latin1')}/`;
  const ahead = directory && { directory, names, directories };
  return { path, prefix, directory, names, ahead, bytes, next: 0 };
}

const NO_NAMES = { names: [], directories: new Set<string>(), bytes: 0 };

function look(
  parent: Directory,
  path: Buffer,
  name: Buffer,
  ahead: Node | undefined,
): Omit<Found, 'depth' | 'skip'> | Missed {
  try {
    return { kind: 'found', path, name, parent, node: ahead ?? openNode(parent, name) };
  } catch (error) {
    return missed('entry', path, error);
  }
}

function reasonToStay(parent: Directory, node: Node, path: Buffer, limits: WalkLimits): string | undefined {
  if (node.stat.dev !== parent.dev) return 'another file system is mounted here; it is not part of this one';
  if (path.length > limits.pathBytes)
    return `its path is longer than ${limits.pathBytes} bytes; what lies below it was not read`;
  return undefined;
}

function cutListing(path: Buffer, listing: Listing): Missed | undefined {
  if (listing.left === 0) return undefined;
  const why = `${listing.left} or more entries were not read: too many names to hold (${listing.names.length} were)`;
  return { kind: 'missed', what: 'entries', path, errno: undefined, why };
}

function missed(what: Missed['what'], path: Buffer, error: unknown): Missed {
  const errno = errnoOf(error);
  if (errno === undefined) throw error;
  const why = what === 'entry' && errno === 'ENOENT' ? 'it vanished after its directory was listed' : explain(error);
  return { kind: 'missed', what, path, errno, why };
}
