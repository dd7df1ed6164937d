/**
 * `npm run bench -- processes [--unlike] [--descriptors 20000] [--rounds 5] [--json FILE]`: the CPU time of the processes artifact
 * for 1,000 processes with so many descriptors, reader and agent together, with packing into a folder and without. Beside it in the same run, on the
 * same processes: the same system calls from C (what the kernel needs, `procread.c`), lsof, and a shell that copies the same
 * files. `--unlike`: processes that resemble each other less than workers do. CPU time is what to compare on a machine with
 * other work, and SHA-256 of a known size tells how fast it is just now.
 */
import { type ChildProcessByStdio, execFileSync, spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { parseArgs } from 'node:util';
import { AGENT_ENVIRONMENT } from '../agent/environment.ts';
import { median } from './median.ts';
import type { ScanFigures } from './processes-once.ts';

/** What issue 5 allows, of one core. */
const BOUND_MS = 2000;
const MIB = 1024 * 1024;
const SHELL_SHARE = 50;

const PROCESSES = 1000;
/** Of a process: the standard ones, the pipe that all wait for, a pair of sockets, and its own pipe and file. What is missing to the number asked for are files. */
const DESCRIPTORS_AT_LEAST = 9;

/** Processes that have all descriptors in common but for three of their own: both ends of a pipe, and a file. */
const CROWD = `
for (3 .. 1023) { open(my $inherited, '<&=', $_) and close $inherited }
use Socket; pipe(my $stop, my $keep); $| = 1; my @mine; my @pids;
open($mine[$_], '<', '/etc/passwd') for 1 .. @FILES@;
socketpair(my $left, my $right, AF_UNIX, SOCK_STREAM, PF_UNSPEC);
for (1 .. ${PROCESSES}) {
  my $pid = fork; if ($pid) { push @pids, $pid; next }
  close $keep; pipe(my $r, my $w); open(my $f, '<', '/etc/hostname'); @UNLIKE@ sysread $stop, my $x, 1; exit;
}
print "@pids\\n"; <STDIN>;`;

/** Files that no sibling has at the same place, and memory of another size: nothing that a scan can take from the process before. */
const UNLIKE = `for (1 .. @FILES@) { open($mine[$_], '<', '/etc/passwd'); sysseek $mine[$_], $$ + $_, 0 } my $y = 'y' x ($$ * 10);`;

function crowdOf(files: number, unlike: boolean): string {
  return CROWD.replace('@UNLIKE@', () => (unlike ? UNLIKE : '')).replaceAll('@FILES@', String(files));
}

/** As a responder's script does it: the same files, as they are, and lists of the descriptors. */
const SHELL = `
for p in "$@"; do
  mkdir "$OUT/$p" && cd /proc/$p || continue
  for f in status stat comm cgroup limits wchan stack syscall io sched auxv loginuid sessionid oom_score oom_score_adj timerslack_ns \\
    personality mountinfo timers uid_map gid_map cmdline environ maps; do cat $f > "$OUT/$p/$f"; done
  ls -l . ns fd > "$OUT/$p/links"; ls -lLn fd > "$OUT/$p/files"; cat fdinfo/* > "$OUT/$p/fdinfo"
done 2> /dev/null`;

interface Peer {
  readonly name: string;
  readonly cpuMs: number;
  readonly wallMs: number;
}

interface Round {
  readonly packed: ScanFigures;
  readonly dropped: ScanFigures;
  readonly peers: readonly Peer[];
  readonly sha256GbPerSecond: number;
}

/** Of a child and all that it waited for: user and system time as bash's `times` tells them. */
function timed(name: string, command: string, pids: readonly string[], env: Record<string, string>): Peer {
  const startedAt = performance.now();
  const script = `TIMEFORMAT='%U %S'; time { ${command}\n}`;
  const { stderr, status } = spawnSync('bash', ['-c', script, 'peer', ...pids], {
    env: { PATH: process.env.PATH ?? '', ...env },
    stdio: ['ignore', 'ignore', 'pipe'],
    maxBuffer: 64 * MIB,
  });
  const [user, system] = String(stderr).trim().split('\n').at(-1)?.split(' ').map(Number) ?? [];
  if (user === undefined || system === undefined || Number.isNaN(user + system)) {
    throw new Error(`${name} ended with ${status}: ${stderr}`);
  }
  return { name, cpuMs: (user + system) * 1000, wallMs: performance.now() - startedAt };
}

/** It takes minutes for all of them, so it does a part. */
function shellPeer(pids: readonly string[], out: string): Peer {
  const some = pids.filter((_, index) => index % SHELL_SHARE === 0);
  const { cpuMs, wallMs } = timed('a shell that copies the files', SHELL, some, { OUT: out });
  const name = `a shell that copies the files, ${SHELL_SHARE} x a ${SHELL_SHARE}th`;
  return { name, cpuMs: cpuMs * SHELL_SHARE, wallMs: wallMs * SHELL_SHARE };
}

/** Of one core, now. */
function sha256Speed(): number {
  const bytes = Buffer.alloc(64 * MIB, 1);
  const before = process.cpuUsage();
  createHash('sha256').update(bytes).digest();
  const { user, system } = process.cpuUsage(before);
  return bytes.length / ((user + system) * 1000);
}

function exhibit(scratch: string, way: string, pids: readonly string[]): ScanFigures {
  const folder = mkdtempSync(path.join(scratch, 'evidence-'));
  const program = path.join(import.meta.dirname, 'processes-once.ts');
  const said = execFileSync(process.execPath, [program, folder, way, path.join(scratch, 'code')], {
    input: pids.join(' '),
    env: { ...process.env, ...AGENT_ENVIRONMENT },
  });
  rmSync(folder, { recursive: true });
  return JSON.parse(String(said));
}

function measure(scratch: string, pids: readonly string[]): Round {
  const out = path.join(scratch, 'copies');
  mkdirSync(out);
  const packed = exhibit(scratch, 'packed', pids);
  const dropped = exhibit(scratch, 'dropped', pids);
  const peers = [
    timed('the same system calls from C', `${scratch}/procread "$@"`, pids, {}),
    timed('lsof -n -P', 'IFS=,; lsof -n -P -p "$*"', pids, {}),
    shellPeer(pids, out),
  ];
  rmSync(out, { recursive: true });
  return { packed, dropped, peers, sha256GbPerSecond: sha256Speed() };
}

function report(rounds: readonly Round[]): string {
  const of = (pick: (round: Round) => number): number => median(rounds.map(pick));
  const whole = of(({ packed }) => packed.readerCpuMs + packed.agentCpuMs);
  const row = (name: string, value: number, rest = ''): string =>
    `${name.padEnd(54)}${value.toFixed(value < 10 ? 2 : 0).padStart(10)}  ${rest}`;
  const first = rounds[0]?.packed;
  const peers = (rounds[0]?.peers ?? []).map(({ name }, index) => {
    const cpuMs = of(({ peers }) => peers[index]?.cpuMs ?? Number.NaN);
    return row(`${name}, CPU ms`, cpuMs, `exhibit / this: ${(whole / cpuMs).toFixed(2)}`);
  });
  return [
    `${first?.processes} processes, ${first?.descriptors} descriptors, ${rounds.length} rounds, medians; ${os.cpus().length} x ${os.cpus()[0]?.model ?? 'cpu'}, Linux ${os.release()}`,
    '',
    row('exhibit, CPU ms', whole, whole < BOUND_MS ? `bound ${BOUND_MS}: reached` : `bound ${BOUND_MS}: MISSED`),
    row(
      '  reader',
      of(({ packed }) => packed.readerCpuMs),
    ),
    row(
      '  agent',
      of(({ packed }) => packed.agentCpuMs),
    ),
    row(
      '    of that tar, digests, zstd and the sink',
      of(({ packed, dropped }) => packed.agentCpuMs - dropped.agentCpuMs),
    ),
    row(
      'exhibit, wall ms',
      of(({ packed }) => packed.wallMs),
    ),
    ...peers,
    row(
      'SHA-256, GB/s of one core',
      of((round) => round.sha256GbPerSecond),
    ),
    row(
      'agent, peak MiB',
      of(({ packed }) => packed.agentPeakMib),
    ),
    row(
      'reader, peak MiB',
      of(({ packed }) => packed.readerPeakMib),
    ),
    row('members', rounds[0]?.dropped.members ?? Number.NaN),
    row('content, MiB', (rounds[0]?.dropped.contentBytes ?? Number.NaN) / MIB),
    row('stored, MiB', (first?.storedBytes ?? Number.NaN) / MIB),
    row('gaps', Math.max(...rounds.map(({ packed }) => packed.gaps))),
  ].join('\n');
}

export async function processes(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      unlike: { type: 'boolean', default: false },
      descriptors: { type: 'string', default: '20000' },
      rounds: { type: 'string', default: '5' },
      json: { type: 'string', default: path.join('out', 'bench-processes.json') },
    },
  });
  const rounds = Number(values.rounds);
  if (!Number.isInteger(rounds) || rounds < 1) throw new Error(`--rounds is a number of rounds, not ${values.rounds}`);
  const files = Math.round(Number(values.descriptors) / PROCESSES) - DESCRIPTORS_AT_LEAST;
  if (!(files >= 0))
    throw new Error(`--descriptors is at least ${PROCESSES * DESCRIPTORS_AT_LEAST}, not ${values.descriptors}`);
  const scratch = mkdtempSync(path.join(os.tmpdir(), 'exhibit-bench-'));
  const crowd = spawn('perl', ['-e', crowdOf(files, values.unlike)], { stdio: ['pipe', 'pipe', 'inherit'] });
  try {
    execFileSync('gcc', ['-O2', '-o', path.join(scratch, 'procread'), path.join(import.meta.dirname, 'procread.c')]);
    const pids = await pidsOf(crowd);
    await settled(pids);
    // As on a node after its first capture: the reader's code is compiled.
    exhibit(scratch, 'dropped', pids.slice(0, 1));
    const done: Round[] = [];
    for (let round = 1; round <= rounds; round += 1) {
      done.push(measure(scratch, pids));
      process.stderr.write(`round ${round}/${rounds}\n`);
    }
    process.stdout.write(`${report(done)}\n`);
    mkdirSync(path.dirname(values.json), { recursive: true });
    writeFileSync(
      values.json,
      `${JSON.stringify({ at: new Date().toISOString(), kernel: os.release(), rounds: done }, null, 2)}\n`,
    );
    process.stdout.write(`\nAll figures: ${values.json}\n`);
  } finally {
    crowd.kill('SIGKILL');
    rmSync(scratch, { recursive: true, force: true });
  }
}

async function pidsOf(crowd: ChildProcessByStdio<Writable, Readable, null>): Promise<string[]> {
  let said = '';
  for await (const chunk of crowd.stdout.iterator({ destroyOnReturn: false })) {
    said += String(chunk);
    if (said.endsWith('\n')) return said.trim().split(' ');
  }
  throw new Error('perl made no processes');
}

/** The last of the crowd may still be opening what it has when its pid is known. */
async function settled(pids: readonly string[]): Promise<void> {
  for (const pid of pids) {
    while (!/^\d+ /.test(readFileSync(`/proc/${pid}/syscall`, 'latin1'))) await new Promise(setImmediate);
  }
}
