import { bigOf, fromLatin1, intOf, latin1 } from './decode.ts';

/** /proc/PID/stat as proc_pid_stat(5) numbers it. Times are in clock ticks (USER_HZ), sizes in the unit of their name. */
export interface ProcessStat {
  readonly pid: number;
  /** As the process set it: any bytes but NUL, 15 at most (63 for kernel workers). */
  readonly comm: Buffer;
  readonly state: string;
  readonly ppid: number;
  readonly processGroup: number;
  readonly session: number;
  readonly ttyNumber: number;
  readonly terminalProcessGroup: number;
  readonly flags: number;
  readonly minorFaults: number;
  readonly childMinorFaults: number;
  readonly majorFaults: number;
  readonly childMajorFaults: number;
  readonly userTicks: number;
  readonly systemTicks: number;
  readonly childUserTicks: number;
  readonly childSystemTicks: number;
  readonly priority: number;
  readonly nice: number;
  readonly threads: number;
  /** Since boot. */
  readonly startTicks: number;
  readonly virtualBytes: number;
  readonly residentPages: number;
  readonly residentLimit: bigint;
  readonly startCode: bigint;
  readonly endCode: bigint;
  readonly startStack: bigint;
  readonly stackPointer: bigint;
  readonly instructionPointer: bigint;
  readonly exitSignal: number;
  readonly processor: number;
  readonly realtimePriority: number;
  readonly policy: number;
  readonly blockIoTicks: number;
  readonly guestTicks: number;
  readonly startData: bigint;
  readonly endData: bigint;
  readonly startBrk: bigint;
  readonly argStart: bigint;
  readonly argEnd: bigint;
  readonly envStart: bigint;
  readonly envEnd: bigint;
  /** In the form of waitpid(2). */
  readonly exitCode: number;
}

/** PF_KTHREAD of include/linux/sched.h, in `flags`. */
export const PF_KTHREAD = 0x00200000;

/**
 * The name may hold spaces, newlines and parentheses (`) R 1 (`): it ends at the last `)` of the file, because only
 * numbers come after it. Undefined when the bytes are not a stat file; fields a kernel does not have are 0.
 */
export function parseStat(bytes: Uint8Array): ProcessStat | undefined {
  const text = latin1(bytes);
  const open = text.indexOf('(');
  const close = text.lastIndexOf(')');
  const pid = intOf(text.slice(0, open).trim());
  if (open < 0 || close < open || pid === undefined) return undefined;
  const rest = text
    .slice(close + 1)
    .trim()
    .split(' ');
  const state = rest[0];
  if (state === undefined || state.length !== 1 || intOf(rest[1]) === undefined) return undefined;
  /** Numbered as in the manual page. */
  const int = (field: number): number => intOf(rest[field - 3]) ?? 0;
  const big = (field: number): bigint => bigOf(rest[field - 3]) ?? 0n;
  return {
    ...{ pid, comm: fromLatin1(text.slice(open + 1, close)), state, ppid: int(4), processGroup: int(5) },
    ...{ session: int(6), ttyNumber: int(7), terminalProcessGroup: int(8), flags: int(9) },
    ...{ minorFaults: int(10), childMinorFaults: int(11), majorFaults: int(12), childMajorFaults: int(13) },
    ...{ userTicks: int(14), systemTicks: int(15), childUserTicks: int(16), childSystemTicks: int(17) },
    ...{ priority: int(18), nice: int(19), threads: int(20), startTicks: int(22), virtualBytes: int(23) },
    ...{ residentPages: int(24), residentLimit: big(25), startCode: big(26), endCode: big(27), startStack: big(28) },
    ...{ stackPointer: big(29), instructionPointer: big(30), exitSignal: int(38), processor: int(39) },
    ...{ realtimePriority: int(40), policy: int(41), blockIoTicks: int(42), guestTicks: int(43) },
    ...{ startData: big(45), endData: big(46), startBrk: big(47), argStart: big(48), argEnd: big(49) },
    ...{ envStart: big(50), envEnd: big(51), exitCode: int(52) },
  };
}

/** Where ticks since boot lie on the wall clock. */
export interface BootClock {
  /** Milliseconds since the epoch, exact to a clock tick. It moves when the wall clock is set. */
  readonly bootTimeMs: number;
  /** USER_HZ, sysconf(_SC_CLK_TCK): 100 on every architecture that EKS has. */
  readonly ticksPerSecond: number;
}

/** RFC 3339 UTC with milliseconds; undefined when the numbers give no date. */
export function tickTime(ticks: number, clock: BootClock): string | undefined {
  const date = new Date(clock.bootTimeMs + (ticks * 1000) / clock.ticksPerSecond);
  return Number.isNaN(date.getTime()) ? undefined : date.toISOString();
}
