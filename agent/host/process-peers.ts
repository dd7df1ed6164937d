import { parseUnixPeers } from './network-netlink.ts';
import type { ScannedProcess } from './process-scanned.ts';
import type { ProcfsReader } from './procfs-reader.ts';

/** Asked for its namespace, one after the other, until one is still there. */
const PROCESSES_ASKED_MAX = 8;

/**
 * The other ends of connected unix sockets, by inode: each network namespace in which the capture has a socket is asked once
 * (sock_diag(7)). Where the kernel does not answer, ends stay unjoined here; the network artifact asks again and says why.
 */
export async function findSocketPeers(
  reader: ProcfsReader,
  processes: readonly Pick<ScannedProcess, 'pid' | 'netNamespace' | 'ends'>[],
  signal: AbortSignal,
): Promise<ReadonlyMap<number, number>> {
  const namespaces = new Map<number, number[]>();
  for (const { pid, netNamespace, ends } of processes) {
    if (netNamespace === undefined || !ends.some(({ key }) => key.startsWith('socket '))) continue;
    const pids = namespaces.get(netNamespace);
    if (pids === undefined) namespaces.set(netNamespace, [pid]);
    else if (pids.length < PROCESSES_ASKED_MAX) pids.push(pid);
  }
  const peers = new Map<number, number>();
  for (const pids of namespaces.values()) {
    for (const pid of pids) {
      const dump = await unixDump(reader, pid, signal);
      if (dump === undefined) continue;
      for (const [inode, peer] of parseUnixPeers(dump)) peers.set(inode, peer);
      break;
    }
  }
  return peers;
}

async function unixDump(reader: ProcfsReader, pid: number, signal: AbortSignal): Promise<Buffer | undefined> {
  let dump: Buffer | undefined;
  try {
    for await (const reply of reader.ask({ kind: 'netlink', pid, dumps: ['unix'] }, signal)) {
      if (reply.kind === 'netlink' && reply.reading.unix?.kind === 'read') dump = reply.reading.unix.bytes;
    }
  } catch {
    signal.throwIfAborted();
  }
  return dump;
}
