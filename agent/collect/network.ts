import { createJsonLines } from '../host/decode-jsonl.ts';
import { procPath } from '../host/host.ts';
import { detailsByKey } from '../host/inet-diag.ts';
import {
  describeInterfaces,
  describeNeighbours,
  describeRoutes,
  describeSockets,
  NETWORK_FILES,
  type NetlinkTables,
} from '../host/network.ts';
import { globalAddresses, type NetlinkDump, parseUnixPeers } from '../host/network-netlink.ts';
import { inodeOf, type NetworkSurvey, surveyNetwork } from '../host/network-scan.ts';
import { type FileReading, LIMIT_BYTES, readLink } from '../host/procfs.ts';
import { type OpenReader, openReader } from '../host/procfs-reader.ts';
import type { Reply, Request, SocketsReading } from '../host/procfs-request.ts';
import type { Collector } from './collector.ts';
import { addConnections, addDumps, addNetfilter, createNetfilterLines, endNetfilterLines } from './netfilter.ts';
import { addFile, addLines, asking, endPart, type ReaderArchive } from './reader-archive.ts';

export interface NetworkOptions {
  /** How /proc is read; in a reader process of its own when absent. */
  readonly openReader?: OpenReader;
}

/** What decides whom the container asks for names, of hosts and of users. */
const ROOT_FILES = [
  'etc/resolv.conf',
  'etc/hosts',
  'etc/nsswitch.conf',
  'etc/hostname',
  'etc/passwd',
  'etc/group',
] as const;

/**
 * The `network` artifact, `network.tar.zst`. For each network namespace among the target's processes the kernel's own tables
 * (`netns-<inode>/…`), then what they say: `sockets.jsonl`, `routes.jsonl`, `interfaces.jsonl`, `neighbours.jsonl`; for each
 * mount namespace its name service files (`mntns-<inode>/etc/…`). See docs/volatile.md.
 */
export function networkCollector(options: NetworkOptions = {}): Collector {
  return {
    artifact: 'network',
    async collect(context) {
      await using reader = (options.openReader ?? openReader)(context.host);
      await using archive = await context.archive('network.tar.zst');
      const part = { context, reader, archive };
      const survey = await surveyTarget(part);
      const work: Work = { ...part, survey };
      const analysed = createAnalysis();
      for (const namespace of survey.namespaces) await addNamespace(work, namespace, analysed);
      await addConnectionsOnNode(work, analysed);
      await endPart(work, analysed.sockets.end());
      await endNetfilterLines(work, analysed.netfilter);
      await addLines(work, 'routes', analysed.routes);
      await addLines(work, 'interfaces', analysed.interfaces);
      await addLines(work, 'neighbours', analysed.neighbours);
      for (const root of survey.roots) await addRootFiles(work, root);
      await archive.commit();
      context.read(reader.counts.bytes, reader.counts.opens);
      context.fact('namespaces', analysed.namespaces);
      context.fact('sockets', analysed.counts);
      context.fact('netfilter', analysed.netfilter.counts);
      context.fact('rootFiles', ROOT_FILES);
      context.fact('readerCpuMs', Math.round(reader.counts.cpuMs));
    },
  };
}

interface Work extends ReaderArchive {
  readonly survey: NetworkSurvey;
}

function createAnalysis() {
  return {
    sockets: createJsonLines('sockets'),
    routes: [] as unknown[],
    interfaces: [] as unknown[],
    neighbours: [] as unknown[],
    /** `host`: it is that of the node's init; absent where that cannot be read. */
    namespaces: [] as { inode: number; processes: number; host?: boolean }[],
    /** By protocol and state: `tcp listen`. */
    counts: {} as Record<string, number>,
    netfilter: createNetfilterLines(),
    /** Of the target's own namespaces, as bytes: what the node's connections are looked through for. */
    addresses: [] as Buffer[],
  };
}

type Analysis = ReturnType<typeof createAnalysis>;

async function surveyTarget(work: ReaderArchive): Promise<NetworkSurvey> {
  const { context } = work;
  const pids = await context.runtime.pids(context.target, context.signal);
  if (pids.length === 0) context.note('The target had no processes any more.');
  const readings: SocketsReading[] = [];
  await asking(work, { kind: 'sockets', pids }, 'owners of sockets', (reply) => {
    if (reply.kind === 'sockets') readings.push(reply.reading);
  });
  const survey = surveyNetwork(readings);
  for (const gap of survey.gaps) context.gap(gap);
  return survey;
}

async function addNamespace(
  work: Work,
  { inode, pids }: NetworkSurvey['namespaces'][number],
  analysed: Analysis,
): Promise<void> {
  const { context } = work;
  const nodes = inodeOf(readLink(procPath(context.host, 1, 'ns', 'net')));
  const host = nodes === undefined ? undefined : nodes === inode;
  if (host) context.note(`Network namespace ${inode} is the node's own: its tables show sockets of the whole node.`);
  analysed.namespaces.push({ inode, processes: pids.length, ...(host === undefined ? {} : { host }) });
  const tables = await addTables(work, inode, pids);
  const dumps = await addNetlink(work, inode, pids);
  const filters = await addFilters(work, analysed, inode, pids, tables);
  if (dumps.address && host === false) analysed.addresses.push(...globalAddresses(dumps.address));
  const peers = dumps.unix ? parseUnixPeers(dumps.unix) : undefined;
  for (const socket of describeSockets(tables, inode, work.survey.ownersByInode, peers, filters)) {
    const kind = `${socket.protocol} ${'state' in socket ? socket.state : ''}`.trim();
    analysed.counts[kind] = (analysed.counts[kind] ?? 0) + 1;
    await endPart(work, analysed.sockets.push(socket));
  }
  const add = (list: unknown[], values: object[]): void => {
    for (const value of values) list.push({ ...value, namespace: inode });
  };
  add(analysed.routes, describeRoutes(tables, dumps));
  add(analysed.interfaces, describeInterfaces(tables, dumps));
  add(analysed.neighbours, describeNeighbours(tables, dumps));
}

/** Packet filters and connections; then what sock_diag tells, which is returned to be joined with the sockets. */
async function addFilters(
  work: Work,
  { netfilter }: Analysis,
  inode: number,
  pids: readonly number[],
  tables: ReadonlyMap<string, Uint8Array>,
) {
  const { context } = work;
  const text = tables.get('nf_conntrack');
  const place = { inode, pids };
  const dumps = await addNetfilter(work, netfilter, place, true);
  const connections = dumps.get('conntrack');
  if (connections === undefined && text === undefined)
    context.note(`The kernel tells no connections of network namespace ${inode}.`);
  await addConnections(work, netfilter, connections, text, { namespace: inode });
  const sockets = await addDumps(work, { about: 'sockets', place }, `netns-${inode}/dump`);
  const [vsock, packet] = ['vsock', 'packet'].map((name) => sockets.get(name));
  const inet = [...sockets].filter(([name]) => name.startsWith('inet-')).map(([, bytes]) => bytes);
  return {
    details: detailsByKey(inet),
    ...(vsock === undefined ? {} : { vsock }),
    ...(packet === undefined ? {} : { packet }),
  };
}

/** Where addresses are translated on the node, a connection of the target is in the node's table, with the other address. */
async function addConnectionsOnNode(work: Work, { netfilter, addresses }: Analysis): Promise<void> {
  const inode = inodeOf(readLink(procPath(work.context.host, 1, 'ns', 'net')));
  if (addresses.length === 0 || inode === undefined) return;
  const ask = { about: 'connections', place: { inode, pids: [1] }, addresses } as const;
  const dumps = await addDumps(work, ask, `netns-${inode}/netfilter`, '-of-target');
  await addConnections(work, netfilter, dumps.get('conntrack'), undefined, { namespace: inode, node: true });
}

/** The tables come through any process that is in the namespace and alive. */
async function addTables(work: Work, inode: number, pids: readonly number[]): Promise<Map<string, Uint8Array>> {
  const { context } = work;
  const tables = new Map<string, Uint8Array>();
  const failed = new Map<string, FileReading & { kind: 'failed' }>();
  for (const pid of pids) {
    const names = NETWORK_FILES.filter((name) => !tables.has(name)).map((name) => `net/${name}`);
    const found: { name: string; reading: FileReading }[] = [];
    const request: Request = { kind: 'files', pid, names, limitBytes: LIMIT_BYTES.network };
    await asking(work, request, `tables of network namespace ${inode}`, (reply) => {
      if (reply.kind === 'file') found.push({ name: reply.name.slice('net/'.length), reading: reply.reading });
    });
    for (const { name, reading } of found) {
      if (reading.kind === 'failed') {
        failed.set(name, reading);
        continue;
      }
      failed.delete(name);
      tables.set(name, reading.bytes);
      const path = `netns-${inode}/${name}`;
      if (reading.truncated) context.gap({ what: path, why: `cut after ${reading.bytes.length} bytes` });
      await addFile(work, path, reading.bytes);
    }
    // Every namespace has this one, so without it the process has ended.
    if (tables.has('sockstat') || tables.has('tcp')) break;
  }
  if (tables.size === 0) {
    context.gap({ what: `netns-${inode}`, why: 'no process of the namespace was left to read it through' });
    return tables;
  }
  for (const [name, { errno }] of failed) {
    if (errno !== 'ENOENT') context.gap({ what: `netns-${inode}/${name}`, errno, why: 'reading it failed' });
  }
  return tables;
}

/** What netlink says is more than /proc says, so without it the artifact is only poorer: a note, not a gap. */
async function addNetlink(work: Work, inode: number, pids: readonly number[]): Promise<NetlinkTables> {
  const dumps: Partial<Record<NetlinkDump, Uint8Array>> = {};
  let readings: [string, FileReading][] = [];
  for (const pid of pids) {
    await asking(work, { kind: 'netlink', pid }, `netlink in network namespace ${inode}`, (reply) => {
      if (reply.kind === 'netlink') readings = Object.entries(reply.reading);
    });
    // ENOENT for all: the process has ended, and another one of the namespace may be there.
    if (readings.some(([, reading]) => reading.kind === 'read' || reading.errno !== 'ENOENT')) break;
  }
  const unread: string[] = [];
  for (const [name, reading] of readings) {
    if (reading.kind === 'failed') {
      unread.push(`${name} (${reading.errno})`);
      continue;
    }
    if (isDump(name)) dumps[name] = reading.bytes;
    await addFile(work, `netns-${inode}/dump/${name}.nlmsg`, reading.bytes);
  }
  if (unread.length > 0)
    work.context.note(`Netlink in network namespace ${inode} did not answer: ${unread.join(', ')}.`);
  return dumps;
}

function isDump(name: string): name is NetlinkDump {
  return ['link', 'address', 'neighbour', 'route', 'unix'].includes(name);
}

async function addRootFiles(work: Work, { mountNamespace, root, pid }: NetworkSurvey['roots'][number]): Promise<void> {
  const { context } = work;
  const replies: Extract<Reply, { kind: 'rootFile' }>[] = [];
  const request: Request = { kind: 'rootFiles', pid, paths: ROOT_FILES, limitBytes: LIMIT_BYTES.rootFile };
  await asking(work, request, `name service files of pid ${pid}`, (reply) => {
    if (reply.kind === 'rootFile') replies.push(reply);
  });
  const folder =
    work.survey.roots.find((first) => first.mountNamespace === mountNamespace)?.pid === pid
      ? `mntns-${mountNamespace}`
      : `mntns-${mountNamespace}-pid-${pid}`;
  for (const { path, result } of replies) {
    const member = `${folder}/${path}`;
    if (result.kind === 'refused') {
      if (result.errno === 'ENOENT' || result.errno === 'ENOTDIR') continue;
      const errno = result.errno === undefined ? {} : { errno: result.errno };
      context.gap({ what: `${member} (${path} in the root of pid ${pid})`, pid, why: result.why, ...errno });
      continue;
    }
    if (result.truncated) context.gap({ what: member, pid, why: `cut after ${result.bytes.length} bytes` });
    await addFile(work, member, result.bytes, result.identity.modifiedNs);
  }
  if (root !== '/') context.note(`The root of pid ${pid} is not that of its mount namespace (chroot).`);
}
