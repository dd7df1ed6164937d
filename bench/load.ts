/**
 * A container that holds memory in one process or many, and notices when it stands still. What it holds is what heaps hold:
 * of each eight MiB four are programs and libraries of the image, two are log lines, one is random, one is zeros that were
 * written. The first process looks at the clock every millisecond; the others sleep. CLOCK_MONOTONIC goes on in a freeze.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { LabNode } from '../test/lab/node.ts';
import type { LabPod } from '../test/lab/pod.ts';

const CONTAINER = 'load';

/** perl makes some 100 MiB a second. */
const READY_TIMEOUT_MS = 300_000;

/** Shorter gaps are the scheduler's. */
const NOTABLE_MS = 3;

/** perl-base has no Time::HiRes: clock_gettime(2) by its number, 0 for the wall clock and 1 for the monotonic one. */
const PROGRAM = `
use POSIX ();
my $call = (POSIX::uname())[4] eq 'aarch64' ? 113 : 228;
sub now { my $ts = pack 'q2'; syscall $call, $_[0], $ts; my ($s, $ns) = unpack 'q2', $ts; $s * 1000 + $ns / 1e6 }
$| = 1;
my ($mib, $processes) = @ARGV;
my @files = grep { -f } glob('/bin/* /usr/bin/* /lib/*/*.so* /usr/lib/*/*.so* /usr/lib/*/perl-base/*/*');
open my $random, '<:raw', '/dev/urandom';
# The next MiB of the image's programs, one after the other, from the beginning again at the end.
my ($next, $rest) = (0, '');
sub code {
  while (length $rest < 1 << 20) {
    open my $fh, '<:raw', $files[$next++ % @files] or next;
    local $/; my $more = <$fh>; $rest .= $more if defined $more;
  }
  my $block = substr $rest, 0, 1 << 20, '';
  return $block;
}
sub fill {
  my ($share) = @_;
  my @held;
  for my $i (0 .. $share - 1) {
    my $kind = $i % 8;
    my $block = '';
    if ($kind < 4) { $block = code(); }
    elsif ($kind < 6) {
      while (length $block < 1 << 20) {
        $block .= sprintf "2026-11-22T%02d:%02d:%02d.%06dZ INFO request id=%d user=%d price=%d.%02d\\n",
          rand 24, rand 60, rand 60, rand 1e6, rand 1e9, rand 1e5, rand 1e4, rand 100;
      }
    }
    elsif ($kind == 6) { read $random, $block, 1 << 20; }
    else { $block = "\\0" x (1 << 20); }
    push @held, $block;
  }
  $rest = '';
  return \\@held;
}
my @children;
pipe my $ready, my $done;
for my $n (2 .. $processes) {
  my $pid = fork;
  if (!$pid) { srand $n; my $held = fill(int($mib / $processes)); syswrite $done, 'x'; sleep 3600 while 1; }
  push @children, $pid;
}
my $held = fill($mib - ($processes - 1) * int($mib / $processes));
for (2 .. $processes) { sysread $ready, my $byte, 1; }
print "ready\\n";
my $last = now 1;
while (1) {
  select undef, undef, undef, 0.001;
  my $now = now 1;
  my $gap = $now - $last;
  printf "gap %.3f %.3f\\n", now(0), $gap if $gap > ${NOTABLE_MS};
  $last = now 1;
}`;

export interface Load {
  readonly pod: LabPod;
  readonly containerId: string;
  /** In the lab node's pid namespace; the first looks at the clock. */
  readonly nsPids: readonly number[];
  /** What the container's processes have in memory, shared pages counted once a process (VmRSS of proc(5)). */
  readonly residentBytes: number;
  /** The longest time that the container stood still since the wall-clock time given, in ms. */
  longestSince(sinceMs: number): number;
}

export async function startLoad(node: LabNode, name: string, sizeMib: number, processes: number): Promise<Load> {
  const pod = await node.runPod({
    namespace: 'bench',
    name,
    containers: [{ name: CONTAINER, command: ['perl', '-e', PROGRAM, String(sizeMib), String(processes)] }],
  });
  const log = () => readFileSync(join(node.hostRoot, pod.logFolder, CONTAINER, '0.log'), 'latin1');
  const deadline = Date.now() + READY_TIMEOUT_MS;
  while (!log().includes('ready')) {
    if (Date.now() > deadline) throw new Error(`the load does not start: ${log()}`);
    await sleep(50);
  }
  const first = await pod.pid(CONTAINER);
  const read = (pid: number, file: string) => readFileSync(join(node.procRoot, String(pid), file), 'latin1');
  const children = read(first, `task/${first}/children`).trim().split(' ').filter(Boolean).map(Number);
  const nsPids = [first, ...children];
  const residentKib = nsPids.map((pid) => Number(/^VmRSS:\s+(\d+)/m.exec(read(pid, 'status'))?.[1] ?? 0));
  return {
    pod,
    containerId: pod.containerId(CONTAINER),
    nsPids,
    residentBytes: residentKib.reduce((sum, kib) => sum + kib, 0) * 1024,
    longestSince: (sinceMs) => {
      const gaps = [...log().matchAll(/gap (\d+\.\d+) (\d+\.\d+)/g)]
        .filter(([, at]) => Number(at) >= sinceMs)
        .map(([, , gap]) => Number(gap));
      return Math.max(0, ...gaps);
    },
  };
}
