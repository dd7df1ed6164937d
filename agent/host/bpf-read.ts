import { closeSync, constants, lstatSync, openSync, readdirSync, statfsSync } from 'node:fs';
import { errnoOf } from '../../evidence/error.ts';
import { CGROUP_ATTACH_TYPES, linkPointers, PROGRAM, programLengths } from './bpf.ts';
import { allocate, type BpfCalls, type BpfKind, bpfCalls } from './bpf-calls.ts';
import { bpfObjectOf } from './bpf-holders.ts';
import { KIB, MIB } from './procfs.ts';

/** What bpf(2) said of one object; `info` is the kernel's struct, as long as it is known here. */
export type BpfReading =
  | {
      readonly kind: 'program';
      readonly id: number;
      readonly info: Buffer;
      readonly mapIds: readonly number[];
      /** Instructions as the verifier left them; `why`: they were not taken. */
      readonly translated: Buffer | { readonly why: string };
    }
  | { readonly kind: 'map'; readonly id: number; readonly info: Buffer }
  /** `texts`: what the pointers in `info` lead to: names, by their offset in it; `addresses`: kernel addresses likewise. */
  | {
      readonly kind: 'link';
      readonly id: number;
      readonly info: Buffer;
      readonly texts: Readonly<Record<number, Buffer>>;
      readonly addresses: readonly bigint[];
    }
  | { readonly kind: 'btf'; readonly id: number; readonly info: Buffer; readonly name: Buffer }
  | {
      readonly kind: 'attached';
      readonly cgroup: string;
      readonly attachType: number;
      /** Also by the control groups above. */
      readonly effective: boolean;
      readonly programIds: readonly number[];
      readonly total: number;
    }
  /** `object` is `other` for what can only be read as text: the kernel's own iterators. */
  | { readonly kind: 'pin'; readonly path: string; readonly object: string; readonly id: number }
  | { readonly kind: 'failed'; readonly what: string; readonly errno: string }
  | { readonly kind: 'cut'; readonly what: string; readonly why: string };

/** Cilium on a large node loads some thousands. */
const OBJECTS_MAX = 20_000;
/** A program has at most 64 maps (MAX_USED_MAPS). */
const MAP_IDS_MAX = 64;
/** The verifier takes a million instructions of 8 bytes; programs of more than 128 KiB are rare. */
const TRANSLATED_MAX_BYTES = MIB;
const TRANSLATED_TOTAL_MAX_BYTES = 64 * MIB;
/** Names of files, functions and tracepoints. */
const TEXT_MAX_BYTES = 4 * KIB;
/** A link may be attached to every function of the kernel. */
const ADDRESSES_MAX = 1024;
/** A control group has at most 64 programs a type (BPF_CGROUP_MAX_PROGS); inherited ones add up. */
const ATTACHED_MAX = 512;
const PINS_MAX = 20_000;
const PIN_DEPTH_MAX = 16;

/** `cgroups`: folders of cgroup2 as they are reached from here. `pinFolders`: where file systems of type bpf are mounted. */
export function* readBpf(cgroups: readonly string[], pinFolders: readonly string[]): Generator<BpfReading> {
  let calls: BpfCalls;
  try {
    calls = bpfCalls();
  } catch {
    yield { kind: 'failed', what: 'bpf(2)', errno: 'ENOSYS' };
    return;
  }
  let translatedBytes = 0;
  for (const kind of ['program', 'map', 'link', 'btf'] as const) {
    for (const reading of readAll(calls, kind, () => TRANSLATED_TOTAL_MAX_BYTES - translatedBytes)) {
      if (reading.kind === 'program' && Buffer.isBuffer(reading.translated))
        translatedBytes += reading.translated.length;
      yield reading;
    }
  }
  for (const cgroup of cgroups) yield* readAttached(calls, cgroup);
  for (const folder of pinFolders) yield* readPins(calls, folder);
}

function* readAll(calls: BpfCalls, kind: BpfKind, room: () => number): Generator<BpfReading> {
  let id = 0;
  try {
    for (let count = 0; ; count += 1) {
      const next = calls.nextId(kind, id);
      if (next === undefined) return;
      if (count === OBJECTS_MAX) {
        yield { kind: 'cut', what: `bpf ${kind}s`, why: `there are more than ${OBJECTS_MAX}` };
        return;
      }
      id = next;
      const reading = readObject(calls, kind, id, room());
      if (reading !== undefined) yield reading;
    }
  } catch (error) {
    yield { kind: 'failed', what: `bpf ${kind}s`, errno: errnoOf(error) ?? 'EIO' };
  }
}

/** Undefined when it has gone since its id was told. */
function readObject(calls: BpfCalls, kind: BpfKind, id: number, room: number): BpfReading | undefined {
  let fd: number;
  try {
    fd = calls.open(kind, id);
  } catch (error) {
    const errno = errnoOf(error) ?? 'EIO';
    // EPERM is for all of them: the caller stops.
    if (errno === 'EPERM') throw error;
    return errno === 'ENOENT' ? undefined : { kind: 'failed', what: `bpf ${kind} ${id}`, errno };
  }
  try {
    return describe(calls, kind, id, fd, room);
  } catch (error) {
    return { kind: 'failed', what: `bpf ${kind} ${id}`, errno: errnoOf(error) ?? 'EIO' };
  } finally {
    closeSync(fd);
  }
}

/** As long as the longest struct of these; the kernel fills what it knows. */
const INFO_BYTES = 256;

function ask(calls: BpfCalls, fd: number, fill: (info: DataView) => void = () => {}): Buffer {
  const info = allocate(INFO_BYTES);
  fill(new DataView(info.buffer));
  const known = calls.info(fd, info);
  return Buffer.from(info.subarray(0, Math.min(known, INFO_BYTES)));
}

function describe(calls: BpfCalls, kind: BpfKind, id: number, fd: number, room: number): BpfReading {
  switch (kind) {
    case 'program':
      return readProgram(calls, id, fd, room);
    case 'map':
      return { kind, id, info: ask(calls, fd) };
    case 'link':
      return readLink(calls, id, fd);
    case 'btf': {
      const name = allocate(TEXT_MAX_BYTES);
      // struct bpf_btf_info: its data are not asked for, its name is at 16 with the length at 24.
      const info = ask(calls, fd, (view) => {
        view.setBigUint64(16, calls.addressOf(name), true);
        view.setUint32(24, name.length, true);
      });
      return { kind, id, info, name: textIn(name) };
    }
    default:
      return kind satisfies never;
  }
}

/** Twice: the first answer says how long the lists are. */
function readProgram(calls: BpfCalls, id: number, fd: number, room: number): BpfReading {
  const { translatedBytes, maps } = programLengths(ask(calls, fd));
  const mapIds = allocate(Math.max(4, Math.min(maps, MAP_IDS_MAX) * 4));
  const wanted = translatedBytes > 0 && translatedBytes <= Math.min(TRANSLATED_MAX_BYTES, room);
  const translated = wanted ? allocate(translatedBytes) : undefined;
  const info = ask(calls, fd, (view) => {
    view.setUint32(PROGRAM.mapCount, mapIds.length / 4, true);
    view.setBigUint64(PROGRAM.mapIds, calls.addressOf(mapIds), true);
    if (translated === undefined) return;
    view.setUint32(PROGRAM.translatedBytes, translatedBytes, true);
    view.setBigUint64(PROGRAM.translated, calls.addressOf(translated), true);
  });
  const ids = new DataView(mapIds.buffer);
  // The kernel takes its pointer back where it does not show instructions (net.core.bpf_jit_harden, kernel.kptr_restrict).
  const shown = translated !== undefined && info.readBigUInt64LE(PROGRAM.translated) !== 0n;
  return {
    kind: 'program',
    id,
    info,
    mapIds: Array.from({ length: Math.min(maps, mapIds.length / 4) }, (_, index) => ids.getUint32(index * 4, true)),
    translated: shown ? Buffer.from(translated) : { why: whyNot(translatedBytes, room) },
  };
}

function whyNot(translatedBytes: number, room: number): string {
  if (translatedBytes === 0) return 'the kernel does not tell them';
  if (translatedBytes > TRANSLATED_MAX_BYTES) return `${translatedBytes} bytes are more than ${TRANSLATED_MAX_BYTES}`;
  if (translatedBytes > room) return `the budget of ${TRANSLATED_TOTAL_MAX_BYTES} bytes is used up`;
  return 'the kernel does not show them';
}

/** Twice: what the pointers are depends on the type of the link. */
function readLink(calls: BpfCalls, id: number, fd: number): BpfReading {
  const { texts, addresses } = linkPointers(ask(calls, fd));
  const places = new Map(texts.map(({ pointer }) => [pointer, allocate(TEXT_MAX_BYTES)]));
  const kernel = addresses === undefined ? undefined : allocate(Math.min(addresses.count, ADDRESSES_MAX) * 8);
  // ENOSPC: there are more addresses than places; then they are not told at all.
  const isFull = addresses !== undefined && addresses.count > ADDRESSES_MAX;
  const info = ask(calls, fd, (view) => {
    for (const { pointer, length } of texts) {
      const place = places.get(pointer);
      if (place === undefined) continue;
      view.setBigUint64(pointer, calls.addressOf(place), true);
      view.setUint32(length, place.length, true);
    }
    if (addresses === undefined || kernel === undefined || isFull || kernel.length === 0) return;
    view.setBigUint64(addresses.pointer, calls.addressOf(kernel), true);
    view.setUint32(addresses.length, addresses.count, true);
  });
  const words = kernel === undefined || isFull ? [] : new BigUint64Array(kernel.buffer);
  return {
    kind: 'link',
    id,
    info,
    texts: Object.fromEntries([...places].map(([pointer, place]) => [pointer, textIn(place)])),
    addresses: [...words],
  };
}

function textIn(bytes: Uint8Array): Buffer {
  const end = bytes.indexOf(0);
  return Buffer.from(bytes.subarray(0, end < 0 ? bytes.length : end));
}

/**
 * EINVAL: this kernel does not know the type, or programs of it are attached otherwise. A control group that is not there, because
 * its container ended or only version 1 has it, has nothing attached.
 */
function* readAttached(calls: BpfCalls, cgroup: string): Generator<BpfReading> {
  let fd = -1;
  try {
    fd = openSync(cgroup, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
    for (const attachType of CGROUP_ATTACH_TYPES.keys()) {
      for (const effective of [false, true]) {
        try {
          const { ids, total } = calls.attached(fd, attachType, effective, ATTACHED_MAX);
          if (total > 0) yield { kind: 'attached', cgroup, attachType, effective, programIds: ids, total };
        } catch (error) {
          if (errnoOf(error) !== 'EINVAL') throw error;
        }
      }
    }
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return;
    yield { kind: 'failed', what: `bpf programs of the control group ${cgroup}`, errno: errnoOf(error) ?? 'EIO' };
  } finally {
    if (fd >= 0) closeSync(fd);
  }
}

/** statfs(2): BPF_FS_MAGIC. */
const BPF_FS = 0xcafe4a11;

/**
 * What is pinned below `root`, by walking down from a folder that is held: a link is never followed, and each folder is looked
 * at through the descriptor of the one above. Objects are opened to learn their number, and closed.
 */
function* readPins(calls: BpfCalls, root: string): Generator<BpfReading> {
  let count = 0;
  const walk = function* (path: string, shown: string, depth: number): Generator<BpfReading> {
    let fd = -1;
    try {
      fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
      const own = `/proc/self/fd/${fd}`;
      if (statfsSync(own).type !== BPF_FS) return;
      for (const name of readdirSync(own)) {
        if (count >= PINS_MAX || depth > PIN_DEPTH_MAX) {
          yield {
            kind: 'cut',
            what: `pins below ${root}`,
            why: `more than ${PINS_MAX}, or deeper than ${PIN_DEPTH_MAX}`,
          };
          return;
        }
        count += 1;
        const entry = lstatSync(`${own}/${name}`, { throwIfNoEntry: false });
        if (entry?.isDirectory()) yield* walk(`${own}/${name}`, `${shown}/${name}`, depth + 1);
        else if (entry?.isFile()) yield pinOf(calls, `${own}/${name}`, `${shown}/${name}`);
      }
    } catch (error) {
      const errno = errnoOf(error) ?? 'EIO';
      if (errno !== 'ENOENT') yield { kind: 'failed', what: `pins in ${shown}`, errno };
    } finally {
      if (fd >= 0) closeSync(fd);
    }
  };
  yield* walk(root, root, 0);
}

function pinOf(calls: BpfCalls, path: string, shown: string): BpfReading {
  let fd = -1;
  try {
    fd = calls.openPinned(path);
    const object = bpfObjectOf('/proc/self', fd);
    return { kind: 'pin', path: shown, object: object?.kind ?? 'other', id: object?.id ?? 0 };
  } catch (error) {
    const errno = errnoOf(error) ?? 'EIO';
    // The file was seen a moment ago: bpf(2) says so of a file that stands for none of its objects.
    return errno === 'ENOENT'
      ? { kind: 'pin', path: shown, object: 'other', id: 0 }
      : { kind: 'failed', what: `pin ${shown}`, errno };
  } finally {
    if (fd >= 0) closeSync(fd);
  }
}
