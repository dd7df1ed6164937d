import { attributes, cString, DUMP_FLAGS, encodeRequest, messages, u32 } from './netlink.ts';
import { parseLinks } from './network-netlink.ts';

/**
 * Traffic control: who sees, changes or drops packets at an interface before and after everything else. include/uapi/linux/
 * rtnetlink.h, pkt_sched.h, pkt_cls.h. eBPF programs may be attached here without a link (cls_bpf).
 */
export interface TrafficQdisc {
  readonly object: 'qdisc';
  readonly interface: string;
  readonly kind: string;
  readonly handle: string;
  readonly parent: string;
}

export interface TrafficFilter {
  readonly object: 'filter';
  readonly interface: string;
  readonly kind: string;
  readonly handle: string;
  /** `ingress` and `egress` of clsact; otherwise the qdisc or class. */
  readonly parent: string;
  readonly priority: number;
  /** EtherType in hex; 0x3 is every one. */
  readonly etherType: string;
  readonly chain?: number;
  /** Of kind `bpf`. */
  readonly bpf?: {
    readonly name?: string;
    readonly programId?: number;
    readonly tag?: string;
    /** Classic BPF: instructions as struct sock_filter, in hex. */
    readonly instructions?: string;
    /** Its answer is the verdict (direct-action). */
    readonly directAction: boolean;
  };
}

const RTM_NEWQDISC = 36;
const RTM_GETQDISC = 38;
const RTM_NEWTFILTER = 44;
const RTM_GETTFILTER = 46;
/** struct tcmsg. */
const HEADER_BYTES = 20;
/** TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS) and _EGRESS. */
const CLSACT_INGRESS = 0xfffffff2;
const CLSACT_EGRESS = 0xfffffff3;
const PARENTS: ReadonlyMap<number, string> = new Map([
  [CLSACT_INGRESS, 'ingress'],
  [CLSACT_EGRESS, 'egress'],
  [0xffffffff, 'root'],
  [0xfffffff1, 'clsact'],
]);

export function qdiscRequest(): Buffer {
  return encodeRequest(RTM_GETQDISC, DUMP_FLAGS, Buffer.alloc(HEADER_BYTES));
}

export interface FilterPlace {
  readonly index: number;
  readonly parent: number;
}

export function filterRequest({ index, parent }: FilterPlace): Buffer {
  const body = Buffer.alloc(HEADER_BYTES);
  body.writeInt32LE(index, 4);
  body.writeUInt32LE(parent, 12);
  return encodeRequest(RTM_GETTFILTER, DUMP_FLAGS, body);
}

/** Where filters may be. A qdisc without a handle is a default of the kernel, and has none. */
export function filterPlaces(qdiscs: Uint8Array): FilterPlace[] {
  return [...entries(qdiscs, RTM_NEWQDISC)].flatMap(({ index, handle, kind }) => {
    if (kind === 'clsact') return [CLSACT_INGRESS, CLSACT_EGRESS].map((parent) => ({ index, parent }));
    return handle === 0 ? [] : [{ index, parent: handle }];
  });
}

interface Entry {
  readonly index: number;
  readonly handle: number;
  readonly parent: number;
  readonly info: number;
  readonly kind: string;
  readonly found: Map<number, Buffer>;
}

function* entries(bytes: Uint8Array, wanted: number): Generator<Entry> {
  for (const { type, body } of messages(bytes)) {
    if (type !== wanted || body.length < HEADER_BYTES) continue;
    const found = attributes(body.subarray(HEADER_BYTES));
    yield {
      index: body.readInt32LE(4),
      handle: body.readUInt32LE(8),
      parent: body.readUInt32LE(12),
      info: body.readUInt32LE(16),
      kind: cString(found.get(1)) ?? '',
      found,
    };
  }
}

/** `major:minor` in hex, as tc(8) writes it. */
function handleText(handle: number): string {
  const minor = handle & 0xffff;
  return `${(handle >>> 16).toString(16)}:${minor === 0 ? '' : minor.toString(16)}`;
}

/** `links`, `qdiscs` and `filters`: dumps of one network namespace. */
export function* describeTrafficControl(
  links: Uint8Array,
  qdiscs: Uint8Array,
  filters: Uint8Array,
): Generator<TrafficQdisc | TrafficFilter> {
  const names = new Map(parseLinks(links).map(({ index, name }) => [index, name]));
  const nameOf = (index: number) => names.get(index) ?? String(index);
  const parentOf = (parent: number) => PARENTS.get(parent) ?? handleText(parent);
  for (const { index, handle, parent, kind } of entries(qdiscs, RTM_NEWQDISC)) {
    yield {
      object: 'qdisc',
      interface: nameOf(index),
      kind,
      handle: handleText(handle),
      parent: parentOf(parent),
    };
  }
  for (const { index, handle, parent, info, kind, found } of entries(filters, RTM_NEWTFILTER)) {
    const options = found.get(2);
    // The kernel tells the place of a filter before the filter itself.
    if (options === undefined || handle === 0) continue;
    const chain = u32(found.get(11));
    const protocol = ((info & 0xff) << 8) | ((info >>> 8) & 0xff);
    yield {
      object: 'filter',
      interface: nameOf(index),
      kind,
      handle: `0x${handle.toString(16)}`,
      parent: parentOf(parent),
      priority: info >>> 16,
      etherType: `0x${protocol.toString(16)}`,
      ...(chain === undefined ? {} : { chain }),
      ...(kind === 'bpf' ? { bpf: bpfOf(options) } : {}),
    };
  }
}

/** TCA_BPF_*; flag 1 is TCA_BPF_FLAG_ACT_DIRECT. */
function bpfOf(options: Buffer): NonNullable<TrafficFilter['bpf']> {
  const found = attributes(options);
  const [name, programId] = [cString(found.get(7)), u32(found.get(11))];
  const [tag, instructions] = [found.get(10), found.get(5)];
  return {
    ...(name === undefined ? {} : { name }),
    ...(programId === undefined ? {} : { programId }),
    ...(tag === undefined ? {} : { tag: tag.toString('hex') }),
    ...(instructions === undefined ? {} : { instructions: instructions.toString('hex') }),
    directAction: ((u32(found.get(8)) ?? 0) & 1) !== 0,
  };
}
