import { jsonLine, worded } from './decode.ts';
import { stateName } from './decode-flags.ts';
import type { ThreadReading } from './process-read.ts';
import * as small from './process-small.ts';
import { type BootClock, parseStat, tickTime } from './process-stat.ts';
import { type ProcessStatus, parseStatus } from './process-status.ts';
import { bytesOf, commOf, waitChannelOf } from './process-words.ts';

export interface ThreadRecord {
  readonly tid: number;
  readonly comm: string;
  readonly commBase64?: string;
  readonly state: string | undefined;
  readonly startedAt: string | undefined;
  readonly nsPid: number[];
  readonly waitChannel: string | undefined;
  readonly syscall: small.SyscallState | undefined;
  readonly kernelStack: string[];
  /** What it has else than the process' first thread: the kernel keeps these by thread. */
  readonly differs?: Partial<Credentials>;
}

export type Credentials = Pick<
  ProcessStatus,
  'uids' | 'gids' | 'groups' | 'capabilities' | 'noNewPrivileges' | 'seccomp' | 'seccompFilters'
>;

export function threadOf(thread: ThreadReading, clock: BootClock, leader: Credentials): ThreadRecord {
  const statBytes = bytesOf(thread.files.stat);
  const stat = statBytes ? parseStat(statBytes) : undefined;
  const status = parseStatus(bytesOf(thread.files.status) ?? Buffer.alloc(0));
  const wchan = bytesOf(thread.files.wchan);
  const syscall = bytesOf(thread.files.syscall);
  const stack = bytesOf(thread.files.stack);
  const differs = thread.files.status?.kind === 'read' ? differencesOf(status, leader) : {};
  return {
    tid: thread.tid,
    ...worded('comm', commOf(thread.files.comm, stat)),
    state: stat ? stateName(stat.state) : undefined,
    startedAt: stat ? tickTime(stat.startTicks, clock) : undefined,
    nsPid: status.nsPid,
    waitChannel: waitChannelOf(wchan ? small.parseWords(wchan).toString('utf8') : undefined),
    syscall: syscall ? small.parseSyscall(syscall) : undefined,
    kernelStack: stack ? small.parseStack(stack) : [],
    ...(Object.keys(differs).length === 0 ? {} : { differs }),
  };
}

/** The C library gives all threads the same when setuid(2) and its like are called; a system call by hand does not. */
const CREDENTIALS = ['uids', 'gids', 'groups', 'capabilities', 'noNewPrivileges', 'seccomp', 'seccompFilters'] as const;

function differencesOf(thread: Credentials, leader: Credentials): Partial<Credentials> {
  const differing = CREDENTIALS.filter((name) => jsonLine(thread[name]) !== jsonLine(leader[name]));
  return Object.fromEntries(differing.map((name) => [name, thread[name]]));
}
