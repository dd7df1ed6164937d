/**
 * The ELF64 file header and program headers of a core file, written and read. Sources: elf(5), and the gABI's chapter
 * "Program Header" for PN_XNUM. Everything is little-endian: both machines that EKS offers are.
 */

export const ELF_MACHINES = ['x86-64', 'arm64'] as const;
export type ElfMachine = (typeof ELF_MACHINES)[number];

/** e_machine: EM_X86_64 and EM_AARCH64. */
const MACHINE_NUMBER: Record<ElfMachine, number> = { 'x86-64': 62, arm64: 183 };

export const ELF_HEADER_BYTES = 64;
export const PROGRAM_HEADER_BYTES = 56;
export const SECTION_HEADER_BYTES = 64;

/** An e_phnum of this value says that the true number of program headers is in section header 0's sh_info. */
export const PN_XNUM = 0xffff;

const ET_CORE = 4;
const EV_CURRENT = 1;

export const SEGMENT_TYPES = { load: 1, note: 4 } as const;
export const SEGMENT_FLAGS = { execute: 1, write: 2, read: 4 } as const;

/** One program header. Offsets and sizes in the file are numbers (below 2^53); addresses and sizes in memory are not. */
export interface ProgramHeader {
  readonly kind: 'load' | 'note';
  /** A sum of SEGMENT_FLAGS. */
  readonly flags: number;
  readonly fileOffset: number;
  readonly fileBytes: number;
  readonly address: bigint;
  /** Bytes beyond `fileBytes` are zeros. */
  readonly memoryBytes: bigint;
  readonly alignBytes: number;
}

export interface CoreHeader {
  readonly machine: ElfMachine;
  readonly programHeaders: readonly ProgramHeader[];
}

/** Bytes of the headers alone: file header, program headers and, beyond 65,534 of those, section header 0. */
export function headersBytes(programHeaderCount: number): number {
  const section = programHeaderCount >= PN_XNUM ? SECTION_HEADER_BYTES : 0;
  return ELF_HEADER_BYTES + programHeaderCount * PROGRAM_HEADER_BYTES + section;
}

/** Writes the headers to the beginning of `into`, which holds zeros and at least `headersBytes` bytes. */
export function writeHeaders(into: Uint8Array, header: CoreHeader): void {
  const view = new DataView(into.buffer, into.byteOffset, into.byteLength);
  const count = header.programHeaders.length;
  const extended = count >= PN_XNUM;
  const sectionOffset = ELF_HEADER_BYTES + count * PROGRAM_HEADER_BYTES;
  into.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, EV_CURRENT], 0);
  view.setUint16(16, ET_CORE, true);
  view.setUint16(18, MACHINE_NUMBER[header.machine], true);
  view.setUint32(20, EV_CURRENT, true);
  view.setBigUint64(32, BigInt(ELF_HEADER_BYTES), true);
  view.setBigUint64(40, extended ? BigInt(sectionOffset) : 0n, true);
  view.setUint16(52, ELF_HEADER_BYTES, true);
  view.setUint16(54, PROGRAM_HEADER_BYTES, true);
  view.setUint16(56, extended ? PN_XNUM : count, true);
  view.setUint16(58, extended ? SECTION_HEADER_BYTES : 0, true);
  view.setUint16(60, extended ? 1 : 0, true);
  header.programHeaders.forEach((segment, index) => {
    writeProgramHeader(view, ELF_HEADER_BYTES + index * PROGRAM_HEADER_BYTES, segment);
  });
  if (!extended) return;
  // Section header 0 (SHT_NULL): sh_size is the number of section headers, sh_info that of program headers.
  view.setBigUint64(sectionOffset + 32, 1n, true);
  view.setUint32(sectionOffset + 44, count, true);
}

function writeProgramHeader(view: DataView, at: number, segment: ProgramHeader): void {
  view.setUint32(at, SEGMENT_TYPES[segment.kind], true);
  view.setUint32(at + 4, segment.flags, true);
  view.setBigUint64(at + 8, BigInt(segment.fileOffset), true);
  view.setBigUint64(at + 16, segment.address, true);
  view.setBigUint64(at + 32, BigInt(segment.fileBytes), true);
  view.setBigUint64(at + 40, segment.memoryBytes, true);
  view.setBigUint64(at + 48, BigInt(segment.alignBytes), true);
}

/** How many bytes from the start of a core file `readHeaders` needs, told from its first 64; undefined when it is no core of ours. */
export function headersBytesOf(start: Uint8Array): number | undefined {
  if (start.byteLength < ELF_HEADER_BYTES) return undefined;
  const view = new DataView(start.buffer, start.byteOffset, start.byteLength);
  const isCore =
    view.getUint32(0, false) === 0x7f454c46 &&
    view.getUint8(4) === 2 &&
    view.getUint8(5) === 1 &&
    view.getUint16(16, true) === ET_CORE &&
    view.getUint16(54, true) === PROGRAM_HEADER_BYTES &&
    view.getBigUint64(32, true) === BigInt(ELF_HEADER_BYTES);
  if (!isCore) return undefined;
  const count = view.getUint16(56, true);
  if (count !== PN_XNUM) return ELF_HEADER_BYTES + count * PROGRAM_HEADER_BYTES;
  const sectionOffset = view.getBigUint64(40, true);
  if (sectionOffset > BigInt(Number.MAX_SAFE_INTEGER)) return undefined;
  return Number(sectionOffset) + SECTION_HEADER_BYTES;
}

/**
 * Reads the headers of a core that `writeHeaders` wrote; `start` holds at least `headersBytesOf` bytes of the file.
 * Undefined when the bytes are no such core: they may come from a bundle that somebody changed, so nothing is trusted.
 */
export function readHeaders(start: Uint8Array): CoreHeader | undefined {
  const needed = headersBytesOf(start);
  if (needed === undefined || start.byteLength < needed) return undefined;
  const view = new DataView(start.buffer, start.byteOffset, start.byteLength);
  const machine = ELF_MACHINES.find((name) => MACHINE_NUMBER[name] === view.getUint16(18, true));
  let count = view.getUint16(56, true);
  if (count === PN_XNUM) {
    count = view.getUint32(needed - SECTION_HEADER_BYTES + 44, true);
    // The writer counts there only what the header cannot: anything less would hide memory.
    if (count < PN_XNUM) return undefined;
  }
  if (machine === undefined || needed < ELF_HEADER_BYTES + count * PROGRAM_HEADER_BYTES) return undefined;
  const programHeaders: ProgramHeader[] = [];
  for (let index = 0; index < count; index += 1) {
    const segment = readProgramHeader(view, ELF_HEADER_BYTES + index * PROGRAM_HEADER_BYTES);
    if (segment === undefined) return undefined;
    programHeaders.push(segment);
  }
  return { machine, programHeaders };
}

function readProgramHeader(view: DataView, at: number): ProgramHeader | undefined {
  const type = view.getUint32(at, true);
  if (type !== SEGMENT_TYPES.load && type !== SEGMENT_TYPES.note) return undefined;
  const fileOffset = view.getBigUint64(at + 8, true);
  const fileBytes = view.getBigUint64(at + 32, true);
  if (fileOffset + fileBytes > BigInt(Number.MAX_SAFE_INTEGER)) return undefined;
  return {
    kind: type === SEGMENT_TYPES.load ? 'load' : 'note',
    flags: view.getUint32(at + 4, true),
    fileOffset: Number(fileOffset),
    fileBytes: Number(fileBytes),
    address: view.getBigUint64(at + 16, true),
    memoryBytes: view.getBigUint64(at + 40, true),
    alignBytes: Number(BigInt.asUintN(53, view.getBigUint64(at + 48, true))),
  };
}
