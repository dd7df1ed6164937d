import { createRequire } from 'node:module';
import { arch } from 'node:os';
import type koffi from 'koffi';
import { SystemError } from './libc.ts';

/**
 * bpf(2), through the C library's syscall(2): what it tells of programs, maps, links and BTF. It only asks: nothing is loaded,
 * attached, pinned or changed. Needs CAP_SYS_ADMIN (to get from an id to a descriptor), otherwise EPERM.
 */
export interface BpfCalls {
  /** The id after `id` of this kind; undefined: there is none. */
  nextId(kind: BpfKind, id: number): number | undefined;
  /** A descriptor on an object, close-on-exec. Throws ENOENT when it is gone. */
  open(kind: BpfKind, id: number): number;
  /** A descriptor on what is pinned at a path, for reading only where that is possible: links know no such thing. */
  openPinned(path: string): number;
  /** BPF_OBJ_GET_INFO_BY_FD: `info` is asked with and written to. Returns how many bytes the kernel knows. */
  info(fd: number, info: Uint8Array): number;
  /** BPF_PROG_QUERY on a control group's folder: program ids, at most as many as `limit`, and how many there are. */
  attached(cgroupFd: number, attachType: number, effective: boolean, limit: number): { ids: number[]; total: number };
  /** Where the bytes are, for pointers in `info`. They must be of memory that does not move: `allocate`. */
  addressOf(bytes: Uint8Array): bigint;
}

export type BpfKind = 'program' | 'map' | 'link' | 'btf';

/** enum bpf_cmd. */
const GET_NEXT_ID = { program: 11, map: 12, btf: 23, link: 31 } as const satisfies Record<BpfKind, number>;
const GET_FD_BY_ID = { program: 13, map: 14, btf: 19, link: 30 } as const satisfies Record<BpfKind, number>;
const OBJ_GET = 7;
const OBJ_GET_INFO_BY_FD = 15;
const PROG_QUERY = 16;
/** BPF_F_RDONLY and BPF_F_QUERY_EFFECTIVE. */
const READ_ONLY = 0x8;
const EFFECTIVE = 0x1;
/** union bpf_attr is longer by now; the kernel takes a shorter one for a longer one that ends in zeros. */
const ATTRIBUTE_BYTES = 64;
/** syscall(2): __NR_bpf. */
const BPF_NUMBER: Readonly<Record<string, number>> = { x64: 321, arm64: 280 };

/** Bytes that stay where they are, as the kernel is told their address. */
export function allocate(sizeBytes: number): Uint8Array {
  return new Uint8Array(new SharedArrayBuffer(sizeBytes));
}

let bound: BpfCalls | undefined;

/** Throws where the FFI library cannot be loaded, or the machine is none of EKS'. */
export function bpfCalls(): BpfCalls {
  bound ??= bind();
  return bound;
}

function bind(): BpfCalls {
  const number = BPF_NUMBER[arch()];
  if (number === undefined) throw new Error(`bpf(2) has no known number on ${arch()}`);
  // Not an import: koffi's own library is made for some platforms only, and its absence must not stop the agent.
  const ffi: typeof koffi = createRequire(import.meta.url)('koffi');
  // The C library that Node runs on, whichever it is.
  const foreign: (...args: unknown[]) => unknown = ffi
    .load(null)
    .func('intptr_t syscall(intptr_t number, intptr_t command, void *attributes, uintptr_t size)');
  const attribute = Buffer.alloc(ATTRIBUTE_BYTES);
  const call = (command: number, fill: (attribute: Buffer) => void): number => {
    attribute.fill(0);
    fill(attribute);
    const result = Number(foreign(number, command, attribute, attribute.length));
    if (result < 0) throw new SystemError(ffi.errno(), 'bpf');
    return result;
  };
  const addressOf = (bytes: Uint8Array): bigint => BigInt(ffi.address(bytes));
  return {
    addressOf,
    nextId(kind, id) {
      try {
        call(GET_NEXT_ID[kind], (at) => at.writeUInt32LE(id, 0));
      } catch (error) {
        if (error instanceof SystemError && error.code === 'ENOENT') return undefined;
        throw error;
      }
      return attribute.readUInt32LE(4);
    },
    open: (kind, id) => call(GET_FD_BY_ID[kind], (at) => at.writeUInt32LE(id, 0)),
    openPinned(path) {
      const name = allocate(Buffer.byteLength(path) + 1);
      name.set(Buffer.from(path));
      const open = (flags: number) =>
        call(OBJ_GET, (at) => {
          at.writeBigUInt64LE(addressOf(name), 0);
          at.writeUInt32LE(flags, 12);
        });
      try {
        return open(READ_ONLY);
      } catch (error) {
        if (error instanceof SystemError && error.code === 'EINVAL') return open(0);
        throw error;
      }
    },
    info(fd, info) {
      call(OBJ_GET_INFO_BY_FD, (at) => {
        at.writeUInt32LE(fd, 0);
        at.writeUInt32LE(info.length, 4);
        at.writeBigUInt64LE(addressOf(info), 8);
      });
      return attribute.readUInt32LE(4);
    },
    attached(cgroupFd, attachType, effective, limit) {
      const ids = allocate(limit * 4);
      call(PROG_QUERY, (at) => {
        at.writeUInt32LE(cgroupFd, 0);
        at.writeUInt32LE(attachType, 4);
        at.writeUInt32LE(effective ? EFFECTIVE : 0, 8);
        at.writeBigUInt64LE(addressOf(ids), 16);
        at.writeUInt32LE(limit, 24);
      });
      const total = attribute.readUInt32LE(24);
      const view = new DataView(ids.buffer);
      const count = Math.min(total, limit);
      return { ids: Array.from({ length: count }, (_, index) => view.getUint32(index * 4, true)), total };
    },
  };
}
