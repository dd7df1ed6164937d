import { latin1 } from './decode.ts';
import type { End } from './process-descriptor.ts';
import type { ReadingGap } from './process-raw.ts';
import { parseNamespaceLink } from './process-small.ts';
import type { FileReading } from './procfs.ts';
import type { SocketsReading } from './procfs-request.ts';

/** The namespaces that the target's processes are in, and who holds which socket. */
export interface NetworkSurvey {
  readonly namespaces: readonly { readonly inode: number; readonly pids: readonly number[] }[];
  /** One each mount namespace and root: where resolv.conf and hosts are looked for. */
  readonly roots: readonly { readonly mountNamespace: number; readonly root: string; readonly pid: number }[];
  readonly ownersByInode: ReadonlyMap<number, readonly End[]>;
  readonly gaps: readonly (ReadingGap & { readonly pid: number })[];
}

export function surveyNetwork(readings: readonly SocketsReading[]): NetworkSurvey {
  const namespaces = new Map<number, number[]>();
  const roots = new Map<string, NetworkSurvey['roots'][number]>();
  const owners = new Map<number, End[]>();
  const gaps: (ReadingGap & { pid: number })[] = [];
  for (const reading of readings) {
    const { pid, errno } = reading;
    const inode = inodeOf(reading.namespace);
    if (inode !== undefined) namespaces.set(inode, [...(namespaces.get(inode) ?? []), pid]);
    else
      gaps.push({
        pid,
        what: `pid ${pid} network namespace`,
        ...errnoPart(reading.namespace),
        why: 'its link cannot be read',
      });
    for (const { fd, inode: socket } of reading.sockets) {
      const held = owners.get(socket);
      if (held) held.push({ pid, fd });
      else owners.set(socket, [{ pid, fd }]);
    }
    const mountNamespace = inodeOf(reading.mountNamespace);
    if (mountNamespace !== undefined && reading.root.kind === 'read') {
      const root = latin1(reading.root.bytes);
      const key = `${mountNamespace} ${root}`;
      if (!roots.has(key)) roots.set(key, { mountNamespace, root, pid });
    }
    if (errno !== undefined)
      gaps.push({ pid, what: `pid ${pid} owners of its sockets`, errno, why: 'its descriptors cannot be listed' });
    if (reading.truncated)
      gaps.push({ pid, what: `pid ${pid} owners of its sockets`, why: 'it has too many descriptors' });
  }
  return {
    namespaces: [...namespaces].map(([inode, pids]) => ({ inode, pids })),
    roots: [...roots.values()],
    ownersByInode: owners,
    gaps,
  };
}

export function inodeOf(link: FileReading): number | undefined {
  return link.kind === 'read' ? parseNamespaceLink(link.bytes)?.inode : undefined;
}

function errnoPart(reading: FileReading): { errno?: string } {
  return reading.kind === 'failed' ? { errno: reading.errno } : {};
}
