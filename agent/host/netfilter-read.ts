import { closeSync } from 'node:fs';
import { errnoOf } from '../../evidence/error.ts';
import { conntrackAddresses } from './conntrack.ts';
import { latin1 } from './decode.ts';
import type { Host } from './host.ts';
import { entriesBytesOf, INFO_BYTES, LEGACY, type LegacyFamily } from './iptables-legacy.ts';
import type { KernelPart, KernelParts } from './kernel-presence.ts';
import {
  conntrackRequest,
  elementsRequest,
  generationRequest,
  NETLINK_NETFILTER,
  NFTABLES_DUMPS,
  nftablesRequest,
} from './netfilter-request.ts';
import { type DumpReading, inNamespaceOf, type NamespacePlace, type NetlinkCalls, readDump } from './netlink-calls.ts';
import { generationOf, setNames } from './nftables.ts';
import { failed, LIMIT_BYTES, MIB, readBounded } from './procfs.ts';

/** One piece of what a network namespace's packet filters say, as the kernel gave it. */
export interface NetfilterReading {
  /** Without the ending: `nftables-rules`, `iptables-filter.entries`, `conntrack`. */
  readonly name: string;
  readonly reading:
    | DumpReading
    | { readonly kind: 'absent'; readonly why: string }
    /** The namespace could not be entered. */
    | { readonly kind: 'unreachable'; readonly errno: string };
}

/** 500 bytes a rule: some 65,000 rules, as kube-proxy makes them for 8,000 services. */
const NFTABLES_MAX_BYTES = 32 * MIB;
/** All dumps of one ruleset: they are held at once, here and in the agent. */
const RULESET_MAX_BYTES = 64 * MIB;
/** Sets whose elements are asked for; each is a dump of its own. */
const SETS_MAX = 4096;
/** 300 bytes a connection: some 100,000; by default a node of 4 GiB may have 65,536. */
const CONNTRACK_MAX_BYTES = 32 * MIB;
/** What is looked through for the target's addresses: nf_conntrack_max of the largest nodes is some 2 million. */
const CONNTRACK_SCAN_MAX_BYTES = 768 * MIB;
/** 200 bytes a rule. */
const LEGACY_MAX_BYTES = 32 * MIB;
/** A ruleset that changes all the time is taken three times, and the last one kept. */
const ATTEMPTS = 3;
/** The kernel has five tables a family; a list with more is not its own. */
const LEGACY_TABLES_MAX = 16;

/** What is said when the namespace cannot be entered. */
export function unreachable(name: string, error: unknown): NetfilterReading {
  return { name, reading: { kind: 'unreachable', errno: errnoOf(error) ?? 'EIO' } };
}

/** nftables, iptables and, with `connections`, the connections of a namespace. */
export function readNetfilter(
  host: Host,
  parts: KernelParts,
  place: NamespacePlace,
  connections: boolean,
): NetfilterReading[] {
  try {
    return inNamespaceOf(host, place, (calls) => [
      ...readRuleset(calls, parts),
      ...readLegacy(calls),
      ...(connections ? [readConntrack(calls, parts)] : []),
    ]);
  } catch (error) {
    return [unreachable('packet filters', error)];
  }
}

/** Connections of a namespace that have one of these addresses (4 or 16 bytes) at either end. */
export function readConnectionsOf(
  host: Host,
  parts: KernelParts,
  place: NamespacePlace,
  addresses: readonly Uint8Array[],
): NetfilterReading {
  const wanted = new Set(addresses.map(latin1));
  const keep = (body: Buffer): boolean => conntrackAddresses(body).some((address) => wanted.has(latin1(address)));
  try {
    return inNamespaceOf(host, place, (calls) => readConntrack(calls, parts, keep));
  } catch (error) {
    return unreachable('conntrack', error);
  }
}

function absentPart(parts: KernelParts, needed: readonly KernelPart[]): { kind: 'absent'; why: string } | undefined {
  for (const part of needed) {
    const presence = parts.presenceOf(part);
    if (presence.kind === 'absent') return presence;
  }
  return undefined;
}

/** Taken again while its generation changes: a rule of one and a chain of another do not go together. */
function readRuleset(calls: NetlinkCalls, parts: KernelParts): NetfilterReading[] {
  const absent = absentPart(parts, ['nfnetlink', 'nf_tables']);
  if (absent) return [{ name: 'nftables', reading: absent }];
  for (let attempt = 1; ; attempt += 1) {
    const before = generation(calls);
    if (before.kind === 'failed') return [{ name: 'nftables', reading: before }];
    const readings = readOnce(calls);
    const after = generation(calls);
    const changed = after.kind === 'read' && generationOf(after.bytes) !== generationOf(before.bytes);
    if (changed && attempt < ATTEMPTS) continue;
    return [{ name: 'nftables-generation', reading: { ...before, interrupted: changed } }, ...readings];
  }
}

function generation(calls: NetlinkCalls): DumpReading {
  return readDump(calls, { protocol: NETLINK_NETFILTER, request: generationRequest(), limitBytes: MIB });
}

function readOnce(calls: NetlinkCalls): NetfilterReading[] {
  let room = RULESET_MAX_BYTES;
  const take = (name: string, read: (limitBytes: number) => DumpReading): NetfilterReading => {
    const reading = read(Math.max(0, Math.min(NFTABLES_MAX_BYTES, room)));
    if (reading.kind === 'read') room -= reading.bytes.length;
    return { name: `nftables-${name}`, reading };
  };
  const readings = NFTABLES_DUMPS.map((dump) =>
    take(dump, (limitBytes) =>
      readDump(calls, { protocol: NETLINK_NETFILTER, request: nftablesRequest(dump), limitBytes }),
    ),
  );
  const sets = readings.find(({ name }) => name === 'nftables-sets')?.reading;
  if (sets?.kind !== 'read') return readings;
  return [...readings, take('elements', (limitBytes) => readElements(calls, sets.bytes, limitBytes))];
}

/** All sets' elements, one dump after the other. */
function readElements(calls: NetlinkCalls, sets: Buffer, roomBytes: number): DumpReading {
  const parts: Buffer[] = [];
  let [sizeBytes, asked, truncated, interrupted] = [0, 0, false, false];
  for (const { family, table, set } of setNames(sets)) {
    const limitBytes = roomBytes - sizeBytes;
    if (asked === SETS_MAX || limitBytes <= 0) {
      truncated = true;
      break;
    }
    asked += 1;
    const reading = readDump(calls, {
      protocol: NETLINK_NETFILTER,
      request: elementsRequest(family, table, set),
      limitBytes,
    });
    // ENOENT: the set was removed since; the generation tells.
    if (reading.kind === 'failed') {
      if (reading.errno === 'ENOENT') continue;
      return reading;
    }
    parts.push(reading.bytes);
    sizeBytes += reading.bytes.length;
    truncated ||= reading.truncated;
    interrupted ||= reading.interrupted ?? false;
  }
  return { kind: 'read', bytes: Buffer.concat(parts), truncated, interrupted };
}

function readConntrack(calls: NetlinkCalls, parts: KernelParts, keep?: (body: Buffer) => boolean): NetfilterReading {
  const absent = absentPart(parts, ['nfnetlink', 'nf_conntrack_netlink']);
  if (absent) return { name: 'conntrack', reading: absent };
  const reading = readDump(calls, {
    protocol: NETLINK_NETFILTER,
    request: conntrackRequest(),
    limitBytes: CONNTRACK_MAX_BYTES,
    ...(keep === undefined ? {} : { keep, scanBytes: CONNTRACK_SCAN_MAX_BYTES }),
  });
  return { name: 'conntrack', reading };
}

/**
 * The tables of iptables-legacy that the namespace has already. To ask for another one would make the kernel create it, with
 * its hooks, so only the names that the kernel lists are asked for.
 */
function readLegacy(calls: NetlinkCalls): NetfilterReading[] {
  const readings: NetfilterReading[] = [];
  for (const family of ['iptables', 'ip6tables'] as const) {
    // Of the namespace that this thread is in now.
    const names = readBounded(`/proc/thread-self/net/${LEGACY[family].namesFile}`, LIMIT_BYTES.small);
    if (names.kind === 'failed') continue;
    const tables = latin1(names.bytes)
      .split('\n')
      .filter((name) => /^[a-z0-9_-]{1,31}$/.test(name));
    for (const table of tables.slice(0, LEGACY_TABLES_MAX)) readings.push(...readLegacyTable(calls, family, table));
  }
  return readings;
}

/** IPT_SO_GET_INFO and IPT_SO_GET_ENTRIES (IP6T_SO_* have the same numbers). */
const SO_GET_INFO = 64;
const SO_GET_ENTRIES = 65;
/** Any raw socket will do; this one receives nothing: IPPROTO_RAW, raw(7). */
const IPPROTO_RAW = 255;
const NAME_BYTES = 32;

function readLegacyTable(calls: NetlinkCalls, family: LegacyFamily, table: string): NetfilterReading[] {
  const { addressFamily, level } = LEGACY[family];
  const name = `${family}-${table}`;
  let fd = -1;
  try {
    fd = calls.socket(addressFamily, IPPROTO_RAW);
    for (let attempt = 1; ; attempt += 1) {
      const info = Buffer.alloc(INFO_BYTES);
      info.write(table, 0, NAME_BYTES - 1, 'latin1');
      calls.getOption(fd, level, SO_GET_INFO, info);
      const sizeBytes = entriesBytesOf(info);
      if (sizeBytes > LEGACY_MAX_BYTES) {
        return [
          {
            name,
            reading: { kind: 'absent', why: `its ${sizeBytes} bytes are more than the ${LEGACY_MAX_BYTES} taken` },
          },
        ];
      }
      const entries = Buffer.alloc(ENTRIES_HEADER_BYTES + sizeBytes);
      entries.write(table, 0, NAME_BYTES - 1, 'latin1');
      entries.writeUInt32LE(sizeBytes, NAME_BYTES);
      try {
        calls.getOption(fd, level, SO_GET_ENTRIES, entries);
      } catch (error) {
        // EAGAIN: the table was exchanged since its size was told.
        if (attempt < ATTEMPTS) continue;
        throw error;
      }
      return [
        { name: `${name}.info`, reading: { kind: 'read', bytes: info, truncated: false } },
        { name: `${name}.entries`, reading: { kind: 'read', bytes: entries, truncated: false } },
      ];
    }
  } catch (error) {
    return [{ name, reading: failed(error) }];
  } finally {
    if (fd >= 0) closeSync(fd);
  }
}

/** struct ipt_get_entries: the table's name, the size, and the entries from the next multiple of 8 on. */
const ENTRIES_HEADER_BYTES = 40;
