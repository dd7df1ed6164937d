import type { ElfMachine } from './elfheader.ts';

/**
 * The notes of a core file, in the layout of Linux' `struct elf_prstatus` and `struct elf_prpsinfo`
 * (include/linux/elfcore.h), which are the same on x86-64 and arm64 but for the registers.
 */

/** What one thread's registers are known to be. */
export type CoreRegisters =
  /** Nothing: the thread was running, or it ended. All registers are written as zero. */
  | { readonly kind: 'unknown' }
  /** From /proc/PID/task/TID/syscall: program counter, stack pointer and, inside a system call, its number and arguments. */
  | {
      readonly kind: 'partial';
      readonly programCounter: bigint;
      readonly stackPointer: bigint;
      readonly call?: { readonly number: bigint; readonly args: readonly bigint[] };
    }
  /** As PTRACE_GETREGSET gives them. */
  | FullRegisters;

export interface FullRegisters {
  readonly kind: 'full';
  /** NT_PRSTATUS: the machine's `user_regs_struct`. */
  readonly general: Uint8Array;
  /** NT_FPREGSET. */
  readonly floating?: Uint8Array;
  /** Notes of Linux' own, such as NT_X86_XSTATE (0x202) and NT_ARM_TLS (0x401). */
  readonly extra?: readonly { readonly type: number; readonly bytes: Uint8Array }[];
}

export interface CoreThread {
  readonly tid: number;
  readonly registers: CoreRegisters;
}

export interface CoreProcess {
  readonly pid: number;
  readonly ppid: number;
  readonly processGroup: number;
  readonly session: number;
  readonly uid: number;
  readonly gid: number;
  /** The letter of /proc/PID/stat. */
  readonly state: string;
  readonly nice: number;
  /** The kernel's PF_* flags. */
  readonly flags: bigint;
  /** comm, at most 15 bytes are kept. */
  readonly command: Uint8Array;
  /** The command line, arguments ended by NUL; at most 79 bytes are kept. */
  readonly commandLine: Uint8Array;
  /** /proc/PID/auxv, verbatim. */
  readonly auxv: Uint8Array;
  /** The thread a debugger shows first comes first. */
  readonly threads: readonly CoreThread[];
}

export interface MappedFile {
  readonly start: bigint;
  readonly end: bigint;
  readonly fileOffset: bigint;
  readonly path: Uint8Array;
}

const NT_PRSTATUS = 1;
const NT_FPREGSET = 2;
const NT_PRPSINFO = 3;
const NT_AUXV = 6;
const NT_FILE = 0x46494c45;

const PRPSINFO_BYTES = 136;
/** Where pr_reg begins in struct elf_prstatus. */
const PRSTATUS_REGISTERS_AT = 112;

/** Indexes of 8-byte registers in `user_regs_struct` (arch/x86/include/asm/user_64.h, arch/arm64 uapi asm/ptrace.h). */
const REGISTERS: Record<ElfMachine, { count: number; pc: number; sp: number; call: number; args: readonly number[] }> =
  {
    // rip, rsp, orig_rax; rdi rsi rdx r10 r8 r9
    'x86-64': { count: 27, pc: 16, sp: 19, call: 15, args: [14, 13, 12, 7, 9, 8] },
    // pc, sp, x8; x0..x5
    arm64: { count: 34, pc: 32, sp: 31, call: 8, args: [0, 1, 2, 3, 4, 5] },
  };

/** The content of the PT_NOTE segment: process, its threads, auxv, mapped files, in the order the kernel's own cores have. */
export function encodeNotes(
  machine: ElfMachine,
  pageBytes: number,
  process: CoreProcess,
  files: readonly MappedFile[],
): Uint8Array {
  const [first, ...others] = process.threads;
  const leader = first ?? { tid: process.pid, registers: UNKNOWN };
  const notes = [note(NT_PRSTATUS, prstatus(machine, process, leader))];
  notes.push(note(NT_PRPSINFO, prpsinfo(process)));
  if (process.auxv.byteLength > 0) notes.push(note(NT_AUXV, process.auxv));
  if (files.length > 0) notes.push(note(NT_FILE, fileTable(pageBytes, files)));
  notes.push(...moreRegisters(leader.registers));
  for (const thread of others) {
    notes.push(note(NT_PRSTATUS, prstatus(machine, process, thread)), ...moreRegisters(thread.registers));
  }
  return Buffer.concat(notes);
}

const UNKNOWN: CoreRegisters = { kind: 'unknown' };

/** What follows a thread's NT_PRSTATUS; a reader counts them to the thread of the last one before. */
function moreRegisters(registers: CoreRegisters): Uint8Array[] {
  if (registers.kind !== 'full') return [];
  const { floating, extra = [] } = registers;
  return [
    ...(floating === undefined ? [] : [note(NT_FPREGSET, floating)]),
    ...extra.map(({ type, bytes }) => note(type, bytes, LINUX)),
  ];
}

/** Owners of notes, as elf(5) has them; both fill 8 bytes. */
const CORE = Buffer.from('CORE\0');
const LINUX = Buffer.from('LINUX\0');

function note(type: number, description: Uint8Array, name = CORE): Uint8Array {
  const bytes = Buffer.alloc(12 + 8 + Math.ceil(description.byteLength / 4) * 4);
  bytes.writeUInt32LE(name.byteLength, 0);
  bytes.writeUInt32LE(description.byteLength, 4);
  bytes.writeUInt32LE(type, 8);
  name.copy(bytes, 12);
  bytes.set(description, 20);
  return bytes;
}

function prstatus(machine: ElfMachine, process: CoreProcess, thread: CoreThread): Uint8Array {
  const layout = REGISTERS[machine];
  // After the registers: int pr_fpvalid, padded to 8.
  const bytes = Buffer.alloc(PRSTATUS_REGISTERS_AT + layout.count * 8 + 8);
  bytes.writeInt32LE(thread.tid, 32);
  bytes.writeInt32LE(process.ppid, 36);
  bytes.writeInt32LE(process.processGroup, 40);
  bytes.writeInt32LE(process.session, 44);
  const put = (index: number, value: bigint): void => {
    bytes.writeBigUInt64LE(BigInt.asUintN(64, value), PRSTATUS_REGISTERS_AT + index * 8);
  };
  const known = thread.registers;
  if (known.kind === 'full') {
    bytes.set(known.general.subarray(0, layout.count * 8), PRSTATUS_REGISTERS_AT);
    bytes.writeInt32LE(known.floating === undefined ? 0 : 1, PRSTATUS_REGISTERS_AT + layout.count * 8);
  }
  if (known.kind === 'partial') {
    put(layout.pc, known.programCounter);
    put(layout.sp, known.stackPointer);
    if (known.call !== undefined) {
      put(layout.call, known.call.number);
      layout.args.forEach((register, index) => {
        put(register, known.call?.args[index] ?? 0n);
      });
    }
  }
  return bytes;
}

function prpsinfo(process: CoreProcess): Uint8Array {
  const bytes = Buffer.alloc(PRPSINFO_BYTES);
  const letter = process.state.charCodeAt(0) || 0;
  // pr_state is the index of the state's bit in the kernel; pr_sname is the letter people read.
  bytes.writeUInt8(Math.max(0, 'RSDTZW'.indexOf(process.state.slice(0, 1))), 0);
  bytes.writeUInt8(letter & 0xff, 1);
  bytes.writeUInt8(process.state.startsWith('Z') ? 1 : 0, 2);
  bytes.writeInt8(Math.max(-20, Math.min(19, process.nice)), 3);
  bytes.writeBigUInt64LE(BigInt.asUintN(64, process.flags), 8);
  bytes.writeUInt32LE(process.uid >>> 0, 16);
  bytes.writeUInt32LE(process.gid >>> 0, 20);
  bytes.writeInt32LE(process.pid, 24);
  bytes.writeInt32LE(process.ppid, 28);
  bytes.writeInt32LE(process.processGroup, 32);
  bytes.writeInt32LE(process.session, 36);
  bytes.set(process.command.subarray(0, 15), 40);
  const words = process.commandLine.subarray(0, 79).map((byte) => (byte === 0 ? 0x20 : byte));
  bytes.set(words, 56);
  return bytes;
}

/** NT_FILE: count, page size, (start, end, offset in pages) a file, then the names, each ended by NUL. */
function fileTable(pageBytes: number, files: readonly MappedFile[]): Uint8Array {
  const table = Buffer.alloc(16 + files.length * 24);
  table.writeBigUInt64LE(BigInt(files.length), 0);
  table.writeBigUInt64LE(BigInt(pageBytes), 8);
  files.forEach((file, index) => {
    table.writeBigUInt64LE(file.start, 16 + index * 24);
    table.writeBigUInt64LE(file.end, 24 + index * 24);
    table.writeBigUInt64LE(file.fileOffset / BigInt(pageBytes), 32 + index * 24);
  });
  const end = Uint8Array.of(0);
  return Buffer.concat([table, ...files.flatMap((file) => [file.path, end])]);
}
