import { createRequire } from 'node:module';
import type koffi from 'koffi';

/** What adjtimex(2) says of the kernel's clock. */
export interface ClockDiscipline {
  readonly synchronised: boolean;
  readonly estimatedErrorUs: number;
}

/** struct timex of 64-bit Linux: modes at 0, esterror at 32, status at 40; 208 bytes in all. */
const TIMEX_BYTES = 208;
const ESTERROR_AT = 32;
const STATUS_AT = 40;
const STA_UNSYNC = 0x40;
/** What adjtimex returns when the clock is not synchronised. */
const TIME_ERROR = 5;

/**
 * Reads, with modes 0, so no privilege is needed and nothing is changed. Undefined where libc cannot be called: no
 * 64-bit little-endian Linux, or a container whose seccomp profile forbids it.
 */
export function readClockDiscipline(): ClockDiscipline | undefined {
  if (process.platform !== 'linux' || !['x64', 'arm64'].includes(process.arch)) return undefined;
  for (const name of ['libc.so.6', 'libc.musl-x86_64.so.1', 'libc.musl-aarch64.so.1']) {
    try {
      // Not an import: koffi's own library is made for some platforms only, and its absence must not stop the agent.
      const ffi: typeof koffi = createRequire(import.meta.url)('koffi');
      const adjtimex: (timex: Buffer) => unknown = ffi.load(name).func('int adjtimex(void *timex)');
      const timex = Buffer.alloc(TIMEX_BYTES);
      const result = adjtimex(timex);
      return typeof result === 'number' ? parseTimex(timex, result) : undefined;
    } catch {
      // Another libc, or no libc that can be loaded.
    }
  }
  return undefined;
}

/** `result` as adjtimex returned it; undefined for an error. */
export function parseTimex(timex: Buffer, result: number): ClockDiscipline | undefined {
  if (result < 0 || timex.length < TIMEX_BYTES) return undefined;
  const unsynchronised = (timex.readInt32LE(STATUS_AT) & STA_UNSYNC) !== 0 || result === TIME_ERROR;
  return { synchronised: !unsynchronised, estimatedErrorUs: Number(timex.readBigInt64LE(ESTERROR_AT)) };
}
