import { hex } from './decode.ts';
import { cString } from './netlink.ts';

/**
 * The structs with which bpf(2) answers, and its names for numbers: include/uapi/linux/bpf.h. A struct grows at its end with the
 * years; what an older kernel does not know is missing.
 */

const PROGRAM_TYPES = [
  ...['unspec', 'socket_filter', 'kprobe', 'sched_cls', 'sched_act', 'tracepoint', 'xdp', 'perf_event', 'cgroup_skb'],
  ...['cgroup_sock', 'lwt_in', 'lwt_out', 'lwt_xmit', 'sock_ops', 'sk_skb', 'cgroup_device', 'sk_msg'],
  ...['raw_tracepoint', 'cgroup_sock_addr', 'lwt_seg6local', 'lirc_mode2', 'sk_reuseport', 'flow_dissector'],
  ...['cgroup_sysctl', 'raw_tracepoint_writable', 'cgroup_sockopt', 'tracing', 'struct_ops', 'ext', 'lsm', 'sk_lookup'],
  ...['syscall', 'netfilter'],
];
const MAP_TYPES = [
  ...['unspec', 'hash', 'array', 'prog_array', 'perf_event_array', 'percpu_hash', 'percpu_array', 'stack_trace'],
  ...['cgroup_array', 'lru_hash', 'lru_percpu_hash', 'lpm_trie', 'array_of_maps', 'hash_of_maps', 'devmap', 'sockmap'],
  ...['cpumap', 'xskmap', 'sockhash', 'cgroup_storage', 'reuseport_sockarray', 'percpu_cgroup_storage', 'queue'],
  ...['stack', 'sk_storage', 'devmap_hash', 'struct_ops', 'ringbuf', 'inode_storage', 'task_storage', 'bloom_filter'],
  ...['user_ringbuf', 'cgrp_storage', 'arena', 'insn_array'],
];
const LINK_TYPES = [
  ...['unspec', 'raw_tracepoint', 'tracing', 'cgroup', 'iter', 'netns', 'xdp', 'perf_event', 'kprobe_multi'],
  ...['struct_ops', 'netfilter', 'tcx', 'uprobe_multi', 'netkit', 'sockmap'],
];
const ATTACH_TYPES = [
  ...['cgroup_inet_ingress', 'cgroup_inet_egress', 'cgroup_inet_sock_create', 'cgroup_sock_ops'],
  ...['sk_skb_stream_parser', 'sk_skb_stream_verdict', 'cgroup_device', 'sk_msg_verdict', 'cgroup_inet4_bind'],
  ...['cgroup_inet6_bind', 'cgroup_inet4_connect', 'cgroup_inet6_connect', 'cgroup_inet4_post_bind'],
  ...['cgroup_inet6_post_bind', 'cgroup_udp4_sendmsg', 'cgroup_udp6_sendmsg', 'lirc_mode2', 'flow_dissector'],
  ...['cgroup_sysctl', 'cgroup_udp4_recvmsg', 'cgroup_udp6_recvmsg', 'cgroup_getsockopt', 'cgroup_setsockopt'],
  ...['trace_raw_tp', 'trace_fentry', 'trace_fexit', 'modify_return', 'lsm_mac', 'trace_iter'],
  ...['cgroup_inet4_getpeername', 'cgroup_inet6_getpeername', 'cgroup_inet4_getsockname'],
  ...['cgroup_inet6_getsockname', 'xdp_devmap', 'cgroup_inet_sock_release', 'xdp_cpumap', 'sk_lookup', 'xdp'],
  ...['sk_skb_verdict', 'sk_reuseport_select', 'sk_reuseport_select_or_migrate', 'perf_event', 'trace_kprobe_multi'],
  ...['lsm_cgroup', 'struct_ops', 'netfilter', 'tcx_ingress', 'tcx_egress', 'trace_uprobe_multi'],
  ...['cgroup_unix_connect', 'cgroup_unix_sendmsg', 'cgroup_unix_recvmsg', 'cgroup_unix_getpeername'],
  ...['cgroup_unix_getsockname', 'netkit_primary', 'netkit_peer', 'trace_kprobe_session', 'trace_uprobe_session'],
];

/** By number, those that a control group is asked for. */
export const CGROUP_ATTACH_TYPES: ReadonlyMap<number, string> = new Map(
  [...ATTACH_TYPES.entries()].filter(([, name]) => name.startsWith('cgroup_') || name === 'lsm_cgroup'),
);

export function attachName(number: number): string {
  return ATTACH_TYPES[number] ?? String(number);
}

/** Where things are in struct bpf_prog_info. */
export const PROGRAM = { translatedBytes: 20, translated: 32, mapCount: 52, mapIds: 56 } as const;

export function programLengths(info: Buffer): { translatedBytes: number; maps: number } {
  return { translatedBytes: word(info, PROGRAM.translatedBytes) ?? 0, maps: word(info, PROGRAM.mapCount) ?? 0 };
}

function word(info: Buffer, at: number): number | undefined {
  return at + 4 <= info.length ? info.readUInt32LE(at) : undefined;
}

function long(info: Buffer, at: number): bigint | undefined {
  return at + 8 <= info.length ? info.readBigUInt64LE(at) : undefined;
}

function name(info: Buffer, at: number): string {
  return cString(info.subarray(at, at + 16)) ?? '';
}

/** A number that is there and not 0, under this name. */
function unlessZero<Name extends string>(field: Name, value: number | bigint | undefined) {
  if (value === undefined || value === 0 || value === 0n) return {};
  return { [field]: typeof value === 'bigint' ? Number(value) : value };
}

/** struct bpf_prog_info. `bootTimeMs`: when the node started, since the load time counts from there. */
export function describeProgram(info: Buffer, mapIds: readonly number[], bootTimeMs: number): Record<string, unknown> {
  const loadedNs = long(info, 40) ?? 0n;
  return {
    object: 'program',
    id: word(info, 4) ?? 0,
    type: PROGRAM_TYPES[word(info, 0) ?? 0] ?? String(word(info, 0)),
    name: name(info, 64),
    tag: info.subarray(8, 16).toString('hex'),
    jitedBytes: word(info, 16) ?? 0,
    translatedBytes: word(info, 20) ?? 0,
    loadedAt: timeOf(bootTimeMs + Number(loadedNs / 1_000_000n)),
    uid: word(info, 48) ?? 0,
    mapIds,
    gplCompatible: ((word(info, 84) ?? 0) & 1) !== 0,
    ...unlessZero('interfaceIndex', word(info, 80)),
    ...unlessZero('namespace', long(info, 96)),
    ...unlessZero('btfId', word(info, 128)),
    ...unlessZero('runTimeNs', long(info, 192)),
    ...unlessZero('runCount', long(info, 200)),
    ...unlessZero('recursionMisses', long(info, 208)),
    ...unlessZero('verifiedInstructions', word(info, 216)),
    ...unlessZero('attachBtfObjectId', word(info, 220)),
    ...unlessZero('attachBtfId', word(info, 224)),
  };
}

/** Beyond what Date holds there is no time to tell. */
function timeOf(ms: number): string | undefined {
  return Math.abs(ms) > 8.64e15 ? undefined : new Date(ms).toISOString();
}

/** struct bpf_map_info. Its content is not taken. */
export function describeMap(info: Buffer): Record<string, unknown> {
  return {
    object: 'map',
    id: word(info, 4) ?? 0,
    type: MAP_TYPES[word(info, 0) ?? 0] ?? String(word(info, 0)),
    name: name(info, 24),
    keyBytes: word(info, 8) ?? 0,
    valueBytes: word(info, 12) ?? 0,
    entriesMax: word(info, 16) ?? 0,
    flags: hex(word(info, 20) ?? 0),
    ...unlessZero('interfaceIndex', word(info, 40)),
    ...unlessZero('namespace', long(info, 56)),
    ...unlessZero('btfId', word(info, 64)),
  };
}

/** struct bpf_btf_info. */
export function describeBtf(info: Buffer, text: Buffer): Record<string, unknown> {
  return {
    object: 'btf',
    id: word(info, 12) ?? 0,
    sizeBytes: word(info, 8) ?? 0,
    name: cString(text) ?? '',
    kernel: (word(info, 28) ?? 0) !== 0,
  };
}

/** Where struct bpf_link_info has pointers, and where the length of what they point to is given. */
export interface LinkPointers {
  readonly texts: readonly { readonly pointer: number; readonly length: number }[];
  readonly addresses?: { readonly pointer: number; readonly length: number; readonly count: number };
}

const UPROBE_TYPES = [1, 2];
const KPROBE_TYPES = [3, 4];
const TRACEPOINT_TYPE = 5;
const PERF_TYPES = ['unspec', 'uprobe', 'uretprobe', 'kprobe', 'kretprobe', 'tracepoint', 'event'];

export function linkPointers(info: Buffer): LinkPointers {
  const count = word(info, 24) ?? 0;
  switch (LINK_TYPES[word(info, 0) ?? 0]) {
    case 'raw_tracepoint':
    case 'iter':
      return { texts: [{ pointer: 16, length: 24 }] };
    case 'perf_event':
      return [...UPROBE_TYPES, ...KPROBE_TYPES, TRACEPOINT_TYPE].includes(word(info, 16) ?? 0)
        ? { texts: [{ pointer: 24, length: 32 }] }
        : { texts: [] };
    case 'kprobe_multi':
      return { texts: [], addresses: { pointer: 16, length: 24, count } };
    case 'uprobe_multi':
      return { texts: [{ pointer: 16, length: 48 }] };
    default:
      return { texts: [] };
  }
}

/** struct bpf_link_info; what follows its first 16 bytes depends on the type. */
export function describeLink(
  info: Buffer,
  texts: Readonly<Record<number, Buffer>>,
  addresses: readonly bigint[],
): Record<string, unknown> {
  const type = LINK_TYPES[word(info, 0) ?? 0] ?? String(word(info, 0));
  return {
    object: 'link',
    id: word(info, 4) ?? 0,
    type,
    programId: word(info, 8) ?? 0,
    ...linkDetails(type, info, (at) => cString(texts[at]) ?? '', addresses),
  };
}

function linkDetails(
  type: string,
  info: Buffer,
  text: (at: number) => string,
  addresses: readonly bigint[],
): Record<string, unknown> {
  const attachType = (at: number) => attachName(word(info, at) ?? 0);
  switch (type) {
    case 'raw_tracepoint':
      return { tracepoint: text(16) };
    case 'tracing':
      return {
        attachType: attachType(16),
        ...unlessZero('targetObjectId', word(info, 20)),
        ...unlessZero('targetBtfId', word(info, 24)),
      };
    case 'cgroup':
      return { cgroupId: Number(long(info, 16) ?? 0n), attachType: attachType(24) };
    case 'iter':
      return { target: text(16) };
    case 'netns':
      return { namespace: word(info, 16) ?? 0, attachType: attachType(20) };
    case 'xdp':
      return { interfaceIndex: word(info, 16) ?? 0 };
    case 'tcx':
    case 'netkit':
      return { interfaceIndex: word(info, 16) ?? 0, attachType: attachType(20) };
    case 'struct_ops':
      return { mapId: word(info, 16) ?? 0 };
    case 'sockmap':
      return { mapId: word(info, 16) ?? 0, attachType: attachType(20) };
    case 'netfilter':
      return {
        family: word(info, 16) ?? 0,
        hook: word(info, 20) ?? 0,
        priority: info.length >= 28 ? info.readInt32LE(24) : 0,
      };
    case 'kprobe_multi':
      return { functions: word(info, 24) ?? 0, addresses: addresses.filter((one) => one !== 0n).map(hex) };
    case 'uprobe_multi':
      return { file: text(16), offsets: word(info, 52) ?? 0, ...unlessZero('pid', word(info, 60)) };
    case 'perf_event':
      return perfDetails(info, text(24));
    default:
      return {};
  }
}

function perfDetails(info: Buffer, text: string): Record<string, unknown> {
  const type = word(info, 16) ?? 0;
  const on = { attachType: PERF_TYPES[type] ?? String(type) };
  if (UPROBE_TYPES.includes(type)) return { ...on, file: text, offset: word(info, 36) ?? 0 };
  if (KPROBE_TYPES.includes(type)) {
    const address = long(info, 40) ?? 0n;
    return { ...on, function: text, offset: word(info, 36) ?? 0, ...(address === 0n ? {} : { address: hex(address) }) };
  }
  return type === TRACEPOINT_TYPE ? { ...on, tracepoint: text } : on;
}
