import type { DescriptorRecord, End } from './process-descriptor.ts';

/** A descriptor that may have others at its other end, or on its own. */
export interface JoinableEnd {
  readonly fd: number;
  /** What it is an end of: `pipe 17`. */
  readonly key: string;
  /** Which way data goes; `both` for a FIFO opened for both, `none` where directions say nothing. */
  readonly direction: 'reads' | 'writes' | 'both' | 'none';
}

export interface Joined {
  /** Descriptors that take out what this one puts in, or the other way round. */
  readonly peers?: readonly End[];
  /** Descriptors of the same direction, or on the same socket. */
  readonly sharedWith?: readonly End[];
}

/** Ends listed for one descriptor; a pipe that a thousand workers inherited is not listed a million times. */
const ENDS_MAX = 8;

/** Undefined for what has no other end: files, folders, devices. */
export function endOf(descriptor: DescriptorRecord): JoinableEnd | undefined {
  const { fd, type, inode, device, flags = [] } = descriptor;
  if (type === 'anonymous') {
    const id = descriptor.details?.find((line) => EVENTFD_ID.test(line));
    return id === undefined ? undefined : { fd, key: id, direction: 'none' };
  }
  if (inode === undefined || (type !== 'pipe' && type !== 'socket' && type !== 'fifo')) return undefined;
  const key = `${type} ${device ?? ''} ${inode}`;
  if (type === 'socket') return { fd, key: socketKey(Number(inode)), direction: 'none' };
  const direction = flags.includes('O_RDONLY') ? 'reads' : flags.includes('O_WRONLY') ? 'writes' : 'both';
  return { fd, key, direction };
}

/** Of fdinfo, since Linux 5.2. */
const EVENTFD_ID = /^eventfd-id:\s*\d+$/;

function socketKey(inode: number): string {
  return `socket ${inode}`;
}

type Ends = Record<JoinableEnd['direction'], End[]>;

/**
 * Joins over all processes of the capture. `socketPeers` are inodes of connected sockets by inode. The function gives what
 * one end is joined to.
 */
export function joinEnds(
  processes: readonly { readonly pid: number; readonly ends: readonly JoinableEnd[] }[],
  socketPeers: ReadonlyMap<number, number> = new Map(),
): (pid: number, end: JoinableEnd) => Joined {
  const byKey = new Map<string, Ends>();
  for (const { pid, ends } of processes) {
    for (const { fd, key, direction } of ends) {
      const known = byKey.get(key) ?? { reads: [], writes: [], both: [], none: [] };
      if (!byKey.has(key)) byKey.set(key, known);
      known[direction].push({ pid, fd });
    }
  }
  const connected = new Map([...socketPeers].map(([inode, peer]) => [socketKey(inode), socketKey(peer)]));
  return (pid, { fd, key, direction }) => {
    const all = byKey.get(key);
    if (all === undefined) return {};
    const other = connected.get(key);
    const opposite = {
      reads: [all.writes, all.both],
      writes: [all.reads, all.both],
      both: [all.reads, all.writes, all.both],
      none: other === undefined ? [] : [byKey.get(other)?.none ?? []],
    }[direction];
    const same = direction === 'both' ? [] : [all[direction]];
    const isOther = (end: End): boolean => end.pid !== pid || end.fd !== fd;
    return { ...some('peers', first(opposite, isOther)), ...some('sharedWith', first(same, isOther)) };
  };
}

function first(lists: readonly (readonly End[])[], wanted: (end: End) => boolean): End[] {
  const found: End[] = [];
  for (const list of lists) {
    for (const end of list) {
      if (found.length === ENDS_MAX) return found;
      if (wanted(end)) found.push(end);
    }
  }
  return found;
}

function some<Name extends keyof Joined>(name: Name, ends: End[]): Joined {
  return ends.length === 0 ? {} : { [name]: ends };
}
