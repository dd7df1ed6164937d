import { type Connection, parseConntrack, parseConntrackText } from '../host/conntrack.ts';
import { createJsonLines, type JsonLines } from '../host/decode-jsonl.ts';
import { type LegacyFamily, parseLegacy } from '../host/iptables-legacy.ts';
import type { NetfilterReading } from '../host/netfilter-read.ts';
import type { NamespacePlace } from '../host/netlink-calls.ts';
import { describeNftables } from '../host/nftables.ts';
import type { NodeAsk } from '../host/node-request.ts';
import { describeTrafficControl } from '../host/traffic-control.ts';
import { addFile, asking, endPart, type ReaderArchive } from './reader-archive.ts';

/** Packet filters and followed connections, as lines of all namespaces of one artifact. */
export interface NetfilterLines {
  readonly nftables: JsonLines;
  readonly iptables: JsonLines;
  readonly conntrack: JsonLines;
  readonly trafficControl: JsonLines;
  /** How many of each: `nftables rule`, `iptables filter`, `conntrack tcp`. */
  readonly counts: Record<string, number>;
}

export function createNetfilterLines(): NetfilterLines {
  return {
    nftables: createJsonLines('nftables'),
    iptables: createJsonLines('iptables'),
    conntrack: createJsonLines('conntrack'),
    trafficControl: createJsonLines('traffic-control'),
    counts: {},
  };
}

/** A kernel without the part answers so; the reader asks only where that loads nothing. */
const NOT_THERE = ['EINVAL', 'ENOENT', 'EOPNOTSUPP', 'ENOTSUP', 'EPROTONOSUPPORT', 'EAFNOSUPPORT', 'ENOPROTOOPT'];

/**
 * Asks for dumps and adds each as it came, below `folder`. What was cut or refused is a gap; what this kernel does not have is a
 * note. Returns the bytes by name.
 */
export async function addDumps(
  work: ReaderArchive,
  ask: NodeAsk,
  folder: string,
  suffix = '',
): Promise<Map<string, Buffer>> {
  const { context } = work;
  const readings: NetfilterReading[] = [];
  await asking(work, { kind: 'node', ask }, `${ask.about} for ${folder}`, (reply) => {
    if (reply.kind === 'node' && reply.answer.about === 'netfilter') readings.push(reply.answer.netfilter);
  });
  const dumps = new Map<string, Buffer>();
  const missing: string[] = [];
  for (const { name, reading } of readings) {
    if (reading.kind === 'absent') missing.push(`${name} (${reading.why})`);
    else if (reading.kind === 'unreachable')
      context.gap({ what: `${folder}: ${name}`, errno: reading.errno, why: whyUnreachable(reading.errno) });
    else if (reading.kind === 'failed' && NOT_THERE.includes(reading.errno)) missing.push(`${name} (${reading.errno})`);
    else if (reading.kind === 'failed')
      context.gap({ what: `${folder}/${name}`, errno: reading.errno, why: whyRefused(reading.errno) });
    else {
      const path = `${folder}/${name}${suffix}${/\.(info|entries)$/.test(name) ? '' : '.nlmsg'}`;
      if (reading.truncated) context.gap({ what: path, why: `cut after ${reading.bytes.length} bytes` });
      if (reading.interrupted) context.note(`${path} changed while it was told, also when it was asked for again.`);
      if (reading.seen !== undefined) context.note(`${path} was chosen from ${reading.seen} entries.`);
      dumps.set(name, reading.bytes);
      await addFile(work, path, reading.bytes);
    }
  }
  if (missing.length > 0) context.note(`Not in this kernel, or not asked for, in ${folder}: ${missing.join('; ')}.`);
  return dumps;
}

function whyRefused(errno: string): string {
  return errno === 'EPERM' ? 'it takes CAP_NET_ADMIN' : 'the kernel did not tell it';
}

function whyUnreachable(errno: string): string {
  return errno === 'EPERM' || errno === 'EACCES'
    ? 'the agent may not enter the namespace: it takes CAP_SYS_ADMIN and CAP_SYS_PTRACE'
    : 'no process was left to reach the namespace through';
}

/** nftables, iptables and traffic control of one namespace; its connections where wanted. */
export async function addNetfilter(
  work: ReaderArchive,
  lines: NetfilterLines,
  place: NamespacePlace,
  connections: boolean,
): Promise<Map<string, Buffer>> {
  const dumps = await addDumps(work, { about: 'netfilter', place, connections }, `netns-${place.inode}/netfilter`);
  const nftables = new Map([...dumps].map(([name, bytes]) => [name.replace(/^nftables-/, ''), bytes]));
  for (const object of describeNftables(nftables)) {
    count(lines, `nftables ${object.object}`);
    await endPart(work, lines.nftables.push({ ...object, namespace: place.inode }));
  }
  await addTrafficControl(work, lines, place);
  for (const [name, entries] of dumps) {
    const [, family, table] = /^(ip6?tables)-(.+)\.entries$/.exec(name) ?? [];
    const info = dumps.get(`${family}-${table}.info`);
    if (!isLegacy(family) || info === undefined) continue;
    for (const rule of parseLegacy(family, info, entries)) {
      count(lines, `${family} ${table}`);
      await endPart(work, lines.iptables.push({ ...rule, namespace: place.inode }));
    }
  }
  return dumps;
}

async function addTrafficControl(work: ReaderArchive, lines: NetfilterLines, place: NamespacePlace): Promise<void> {
  const dumps = await addDumps(work, { about: 'trafficControl', place }, `netns-${place.inode}/tc`);
  const [links, qdiscs, filters] = ['links', 'qdiscs', 'filters'].map((name) => dumps.get(name) ?? NOTHING);
  if (links === undefined || qdiscs === undefined || filters === undefined) return;
  for (const object of describeTrafficControl(links, qdiscs, filters)) {
    count(lines, `tc ${object.object}`);
    await endPart(work, lines.trafficControl.push({ ...object, namespace: place.inode }));
  }
}

const NOTHING = new Uint8Array();

function isLegacy(name: string | undefined): name is LegacyFamily {
  return name === 'iptables' || name === 'ip6tables';
}

function count(lines: NetfilterLines, what: string): void {
  lines.counts[what] = (lines.counts[what] ?? 0) + 1;
}

/** `text`: /proc/net/nf_conntrack, for where netlink cannot be asked. */
export async function addConnections(
  work: ReaderArchive,
  lines: NetfilterLines,
  dump: Buffer | undefined,
  text: Uint8Array | undefined,
  about: Readonly<Record<string, unknown>>,
): Promise<void> {
  const connections: Iterable<Connection> =
    dump !== undefined ? parseConntrack(dump) : text !== undefined ? parseConntrackText(text) : [];
  for (const connection of connections) {
    count(lines, `conntrack ${connection.protocol}`);
    await endPart(work, lines.conntrack.push({ ...connection, ...about }));
  }
}

export async function endNetfilterLines(work: ReaderArchive, lines: NetfilterLines): Promise<void> {
  for (const one of [lines.nftables, lines.iptables, lines.conntrack, lines.trafficControl])
    await endPart(work, one.end());
}
