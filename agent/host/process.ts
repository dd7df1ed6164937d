import { hex, hexOf, latin1, type Worded, worded } from './decode.ts';
import { schedulerName, stateName, terminalName } from './decode-flags.ts';
import { remembering, rememberingByFd } from './decode-memo.ts';
import { type DescriptorRecord, describeDescriptor } from './process-descriptor.ts';
import { type ExecutableRecord, executableOf } from './process-executable.ts';
import { type MapsSummary, parseMaps, summariseMaps, withCodeStarts } from './process-maps.ts';
import type { ProcessReading } from './process-read.ts';
import type { DescriptorReading } from './process-read-descriptors.ts';
import * as small from './process-small.ts';
import { type BootClock, PF_KTHREAD, type ProcessStat, parseStat, tickTime } from './process-stat.ts';
import { type ProcessStatus, parseStatus } from './process-status.ts';
import { type ThreadRecord, threadOf } from './process-thread.ts';
import { bytesOf, commandLineOf, commOf, environmentOf, NO_ENVIRONMENT, waitChannelOf } from './process-words.ts';
import type { FileReading } from './procfs.ts';

/** One line of `processes.jsonl`: a process as far as it could be read. docs/volatile.md describes the fields. */
export interface ProcessRecord {
  readonly pid: number;
  readonly ppid: number | undefined;
  readonly nsPid: number[];
  readonly comm: string;
  readonly commBase64?: string;
  /** argv, verbatim as far as UTF-8 goes; the exact bytes are in the raw `cmdline`. */
  readonly commandLine: string[];
  readonly commandLineBase64?: string;
  readonly commandLineTruncated?: true;
  readonly state: string | undefined;
  readonly kernelThread: boolean;
  readonly startedAt: string | undefined;
  readonly executable: ExecutableRecord | undefined;
  readonly cwd: Worded<'path'> | undefined;
  readonly root: Worded<'path'> | undefined;
  readonly stat: Omit<ProcessStat, 'comm' | 'pid' | 'ppid' | 'state'> | undefined;
  readonly status: Omit<ProcessStatus, 'state' | 'ppid' | 'nsPid' | 'tracerPid' | 'memoryBytes'>;
  readonly tracerPid: number | undefined;
  readonly loginUid: number | undefined;
  readonly auditSession: number | undefined;
  readonly securityLabel: string | undefined;
  /** The controlling one: `pts/0`. */
  readonly terminal: string | undefined;
  readonly cpuTimeMs: CpuTimes | undefined;
  /** Inode numbers by type. */
  readonly namespaces: Readonly<Record<string, number>>;
  readonly cgroup: small.CgroupEntry[];
  readonly uidMap: small.IdMapEntry[];
  readonly gidMap: small.IdMapEntry[];
  readonly limits: small.Limits;
  readonly oomScore: number | undefined;
  readonly oomScoreAdjust: number | undefined;
  readonly timerSlackNs: number | undefined;
  readonly personality: string | undefined;
  readonly scheduler: string | undefined;
  readonly timers: string[];
  readonly waitChannel: string | undefined;
  readonly syscall: small.SyscallState | undefined;
  readonly kernelStack: string[];
  readonly io: Readonly<Record<string, number>>;
  readonly auxiliary: Readonly<Record<string, string>>;
  readonly memory: MapsSummary & { readonly statusBytes: Readonly<Record<string, number>> };
  readonly threads: ThreadRecord[];
  readonly descriptors: DescriptorRecord[];
  readonly environmentNames: string[];
  /** `NAME=value` as far as UTF-8 goes; the exact bytes are in the raw `environ`. */
  readonly environment: string[];
  readonly environmentBase64?: string;
  readonly environmentTruncated?: true;
  /** It ended while it was read: some of the above is missing. */
  readonly vanished?: true;
}

/** Exact to a clock tick. `children`: of those that ended and were waited for. */
export interface CpuTimes {
  readonly user: number;
  readonly system: number;
  readonly childrenUser: number;
  readonly childrenSystem: number;
}

/** What an analyst looks at first. Facts, not verdicts: each has innocent causes too. */
export type Anomaly = { readonly kind: string } & Readonly<Record<string, unknown>>;

/** What it takes to read the numbers in /proc. */
export interface AnalysisContext {
  readonly clock: BootClock;
  /** uname(2). */
  readonly machine: string;
  /** Parses mount tables; most processes of a target have the same. */
  readonly mountsOf: (mountinfo: Buffer) => ReadonlyMap<number, small.Mount>;
}

/** Remembers the tables it parsed. */
export function createMountParser(): AnalysisContext['mountsOf'] {
  return remembering((bytes) => new Map(small.parseMountinfo(bytes).map((mount) => [mount.id, mount])));
}

/** Of files that processes of a target often have alike. */
const alike = {
  auxv: remembering(auxiliaryOf),
  cgroup: remembering(small.parseCgroup),
  environ: remembering(environmentOf),
  gidMap: remembering(small.parseIdMap),
  limits: remembering(small.parseLimits),
  maps: remembering((bytes) => summariseMaps(parseMaps(bytes))),
  stack: remembering(small.parseStack),
  syscall: remembering(small.parseSyscall),
  uidMap: remembering(small.parseIdMap),
};

/** Pure. Everything that is missing in the reading is undefined or empty in the record. */
export function analyseProcess(reading: ProcessReading, { clock, machine, mountsOf }: AnalysisContext): ProcessRecord {
  const bytes = (name: string): Buffer | undefined => bytesOf(reading.files[name]);
  const parsed = <Value>(name: string, parse: (bytes: Buffer) => Value, otherwise: Value): Value => {
    const held = bytes(name);
    return held === undefined ? otherwise : parse(held);
  };
  const stat = parsed('stat', parseStat, undefined);
  const { state, ppid, nsPid, tracerPid, memoryBytes, ...status } = parseStatus(bytes('status') ?? Buffer.alloc(0));
  const mounts = parsed('mountinfo', mountsOf, new Map());
  const words = (name: string): string | undefined =>
    parsed<string | undefined>(name, (held) => small.parseWords(held).toString('utf8'), undefined);
  const { comm: _, pid: __, ppid: statPpid, state: statState, ...numbers } = stat ?? EMPTY_STAT;
  const letter = state ?? (stat ? statState : undefined);
  return {
    pid: reading.pid,
    ppid: ppid ?? (stat ? statPpid : undefined),
    nsPid,
    ...worded('comm', commOf(reading.files.comm, stat)),
    ...commandLineOf(bytes('cmdline')),
    state: letter === undefined ? undefined : stateName(letter),
    kernelThread: status.kernelThread ?? ((stat?.flags ?? 0) & PF_KTHREAD) !== 0,
    startedAt: stat ? tickTime(stat.startTicks, clock) : undefined,
    executable: executableOf(reading),
    cwd: linkOf(reading.links.cwd),
    root: linkOf(reading.links.root),
    stat: stat ? numbers : undefined,
    status,
    tracerPid: tracerPid === 0 ? undefined : tracerPid,
    loginUid: parsed('loginuid', small.parseAuditId, undefined),
    auditSession: parsed('sessionid', small.parseAuditId, undefined),
    securityLabel: words('attr/current'),
    terminal: terminalName(stat?.ttyNumber ?? 0),
    cpuTimeMs: stat && cpuTimesOf(stat, clock),
    namespaces: namespacesOf(reading),
    cgroup: parsed('cgroup', alike.cgroup, []),
    uidMap: parsed('uid_map', alike.uidMap, []),
    gidMap: parsed('gid_map', alike.gidMap, []),
    limits: parsed('limits', alike.limits, {}),
    oomScore: parsed('oom_score', small.parseNumber, undefined),
    oomScoreAdjust: parsed('oom_score_adj', small.parseNumber, undefined),
    timerSlackNs: parsed('timerslack_ns', small.parseNumber, undefined),
    personality: parsed('personality', (held) => personalityOf(held), undefined),
    scheduler: schedulerName(stat?.policy),
    timers: parsed('timers', (held) => held.toString('utf8').split('\n').filter(Boolean), []),
    waitChannel: waitChannelOf(words('wchan')),
    syscall: parsed('syscall', alike.syscall, undefined),
    kernelStack: parsed('stack', alike.stack, []),
    io: parsed('io', small.parseIo, {}),
    auxiliary: parsed('auxv', alike.auxv, {}),
    memory: { statusBytes: memoryBytes, ...withCodeStarts(parsed('maps', alike.maps, NO_MAPS), reading.codeStarts) },
    threads: reading.threads.map((thread) => threadOf(thread, clock, status)),
    descriptors: reading.descriptors.map((descriptor) => describeOnce(descriptor, mounts, machine)),
    ...parsed('environ', alike.environ, NO_ENVIRONMENT),
    ...(reading.vanished ? { vanished: true } : {}),
  };
}

/** A descriptor that a process has just like the one before it is the same reading; see process-read-descriptors.ts. */
const describeOnce = rememberingByFd(
  ({ fd }: DescriptorReading) => fd,
  (reading, mounts: ReadonlyMap<number, small.Mount>, machine: string) => describeDescriptor(reading, mounts, machine),
);

const NO_MAPS = summariseMaps([]);

const EMPTY_STAT: ProcessStat = parseStat(Buffer.from('0 () X 0')) as ProcessStat;

function linkOf(reading: FileReading | undefined): Worded<'path'> | undefined {
  return reading?.kind === 'read' ? worded('path', reading.bytes) : undefined;
}

function personalityOf(bytes: Buffer): string | undefined {
  const value = hexOf(latin1(bytes).trim());
  return value === undefined ? undefined : hex(value);
}

function namespacesOf(reading: ProcessReading): Record<string, number> {
  const inodes: Record<string, number> = {};
  for (const [name, link] of Object.entries(reading.links)) {
    if (!name.startsWith('ns/') || link.kind !== 'read') continue;
    const parsed = small.parseNamespaceLink(link.bytes);
    if (parsed) inodes[name.slice(3)] = parsed.inode;
  }
  return inodes;
}

function cpuTimesOf(stat: ProcessStat, { ticksPerSecond }: BootClock): CpuTimes {
  const ms = (ticks: number): number => Math.round((ticks * 1000) / ticksPerSecond);
  return {
    user: ms(stat.userTicks),
    system: ms(stat.systemTicks),
    childrenUser: ms(stat.childUserTicks),
    childrenSystem: ms(stat.childSystemTicks),
  };
}

function auxiliaryOf(bytes: Buffer): Record<string, string> {
  return Object.fromEntries([...small.parseAuxv(bytes)].map(([name, value]) => [name, hex(value)]));
}
