import { closeSync, constants, fstatSync, openSync, readdirSync } from 'node:fs';
import { errnoOf } from '../../evidence/error.ts';
import { asHostPath } from '../runtime/runtime.ts';
import { findBpfHolders } from './bpf-holders.ts';
import { readBpf } from './bpf-read.ts';
import { type Host, reach } from './host.ts';
import {
  DIAG_FAMILIES,
  DIAG_PROTOCOLS,
  inetDiagRequest,
  NETLINK_SOCK_DIAG,
  packetDiagRequest,
  vsockDiagRequest,
} from './inet-diag.ts';
import { type KernelPart, type KernelParts, lookAtKernelParts } from './kernel-presence.ts';
import { readModule } from './modules-read.ts';
import { type NetfilterReading, readConnectionsOf, readNetfilter, unreachable } from './netfilter-read.ts';
import { type DumpReading, inNamespaceOf, type NamespacePlace, type NetlinkCalls, readDump } from './netlink-calls.ts';
import { dumpRequest } from './network-netlink.ts';
import type { NodeAnswer, NodeAsk, NodeFile } from './node-request.ts';
import { O_PATH } from './process-read.ts';
import { type FileReading, failed, LIMIT_BYTES, readBounded } from './procfs.ts';
import { filterPlaces, filterRequest, qdiscRequest } from './traffic-control.ts';

/** Answers a `NodeAsk`. Runs in the reader process. */
export function* answerNode(host: Host, ask: NodeAsk): Generator<NodeAnswer> {
  switch (ask.about) {
    case 'netfilter':
      for (const netfilter of readNetfilter(host, lookAtKernelParts(host), ask.place, ask.connections))
        yield { about: 'netfilter', netfilter };
      return;
    case 'connections':
      yield {
        about: 'netfilter',
        netfilter: readConnectionsOf(host, lookAtKernelParts(host), ask.place, ask.addresses),
      };
      return;
    case 'sockets':
      for (const netfilter of readDiagnostics(host, lookAtKernelParts(host), ask.place))
        yield { about: 'netfilter', netfilter };
      return;
    case 'trafficControl':
      for (const netfilter of readTrafficControl(host, ask.place)) yield { about: 'netfilter', netfilter };
      return;
    case 'files':
      for (const file of ask.names) {
        const name = 'proc' in file ? file.proc : file.sys;
        yield { about: 'file', name, reading: readFile(nodePath(host, file), ask.limitBytes) };
      }
      return;
    case 'names':
      yield namesIn(nodePath(host, { sys: ask.folder }), ask.limit);
      return;
    case 'modules':
      for (const name of ask.names) yield { about: 'module', module: readModule(host, name) };
      return;
    case 'bpf':
      for (const bpf of readBpf(ask.cgroups, ask.pinFolders)) yield { about: 'bpf', bpf };
      return;
    case 'bpfHolders':
      yield { about: 'holders', ...findBpfHolders(host) };
      return;
    default:
      ask satisfies never;
  }
}

/**
 * Only a regular file that is no link, decided on a handle: where something is mounted on the node is said by its mount table, and a
 * privileged container may have a hand in that.
 */
function readFile(path: string, limitBytes: number): FileReading {
  let handle = -1;
  try {
    handle = openSync(path, O_PATH | constants.O_NOFOLLOW);
    if (!fstatSync(handle).isFile()) return { kind: 'failed', errno: 'EINVAL' };
    return readBounded(`/proc/self/fd/${handle}`, limitBytes);
  } catch (error) {
    return failed(error);
  } finally {
    if (handle >= 0) closeSync(handle);
  }
}

function nodePath(host: Host, file: NodeFile): string {
  return 'proc' in file ? `${host.procRoot}/${file.proc}` : reach(host, asHostPath(file.sys));
}

function namesIn(folder: string, limit: number): NodeAnswer {
  try {
    const names = readdirSync(folder).sort();
    return { about: 'names', names: names.slice(0, limit), truncated: names.length > limit };
  } catch (error) {
    return { about: 'names', names: [], truncated: false, errno: errnoOf(error) ?? 'EIO' };
  }
}

/** What sock_diag tells, as far as its parts are in the kernel. */
function readDiagnostics(host: Host, parts: KernelParts, place: NamespacePlace): NetfilterReading[] {
  const ask = (calls: NetlinkCalls, needed: readonly KernelPart[], requests: readonly Buffer[]) => {
    const missing = needed.map((part) => parts.presenceOf(part)).find((presence) => presence.kind === 'absent');
    return missing?.kind === 'absent' ? missing : joined(requests.map((request) => readDiagnostic(calls, request)));
  };
  try {
    return inNamespaceOf(host, place, (calls) => [
      ...DIAG_PROTOCOLS.map((protocol) => ({
        name: `inet-${protocol}`,
        reading: ask(
          calls,
          ['inet_diag', `${protocol}_diag`],
          DIAG_FAMILIES.map((family) => inetDiagRequest(protocol, family)),
        ),
      })),
      { name: 'vsock', reading: ask(calls, ['vsock_diag'], [vsockDiagRequest()]) },
      { name: 'packet', reading: ask(calls, ['af_packet_diag'], [packetDiagRequest()]) },
    ]);
  } catch (error) {
    return [unreachable('sockets', error)];
  }
}

function readDiagnostic(calls: NetlinkCalls, request: Buffer): DumpReading {
  return readDump(calls, { protocol: NETLINK_SOCK_DIAG, request, limitBytes: LIMIT_BYTES.network });
}

/** netlink(7). */
const NETLINK_ROUTE = 0;
/** Two each for 250 pods and some. */
const FILTER_PLACES_MAX = 1024;

/** Asking for qdiscs and filters loads nothing: only making one does. */
function readTrafficControl(host: Host, place: NamespacePlace): NetfilterReading[] {
  const limitBytes = LIMIT_BYTES.network;
  try {
    return inNamespaceOf(host, place, (calls) => {
      const ask = (request: Buffer) => readDump(calls, { protocol: NETLINK_ROUTE, request, limitBytes });
      const [links, qdiscs] = [ask(dumpRequest('link')), ask(qdiscRequest())];
      const places = qdiscs.kind === 'read' ? filterPlaces(qdiscs.bytes) : [];
      const asked = places.slice(0, FILTER_PLACES_MAX).map((place) => ask(filterRequest(place)));
      // A qdisc that takes no filters says EOPNOTSUPP or EINVAL; one that has gone since, ENOENT.
      const filters = joined([
        { kind: 'read', bytes: Buffer.alloc(0), truncated: places.length > asked.length },
        ...asked,
      ]);
      return [
        { name: 'links', reading: links },
        { name: 'qdiscs', reading: qdiscs },
        { name: 'filters', reading: filters },
      ];
    });
  } catch (error) {
    return [unreachable('traffic control', error)];
  }
}

/** Both families' dumps as one; the kernel may have only one of them. */
function joined(readings: readonly DumpReading[]): DumpReading {
  const read = readings.filter((reading) => reading.kind === 'read');
  const [first] = readings;
  if (read.length === 0) return first ?? { kind: 'failed', errno: 'ENOENT' };
  return {
    kind: 'read',
    bytes: Buffer.concat(read.map(({ bytes }) => bytes)),
    truncated: read.some(({ truncated }) => truncated),
    interrupted: read.some(({ interrupted }) => interrupted === true),
  };
}
