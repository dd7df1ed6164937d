/**
 * A container that holds memory and notices when it stands still: a loop sleeps for a millisecond and logs every gap that
 * is longer than a busy scheduler explains. CLOCK_MONOTONIC goes on while a cgroup is frozen.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { LabNode } from '../test/lab/node.ts';
import type { LabPod } from '../test/lab/pod.ts';

const CONTAINER = 'probe';

/** perl fills some 200 MiB a second. */
const READY_TIMEOUT_MS = 120_000;

/** Shorter gaps are the scheduler's. */
const NOTABLE_MS = 5;

/**
 * perl-base has no Time::HiRes: clock_gettime(2) is called by its number, 0 for the wall clock and 1 for the monotonic one.
 * A quarter of each MiB does not compress, the rest does: between a heap of text and one of pictures.
 */
const PROGRAM = `
use POSIX ();
my $call = (POSIX::uname())[4] eq 'aarch64' ? 113 : 228;
sub now { my $ts = pack 'q2'; syscall $call, $_[0], $ts; my ($s, $ns) = unpack 'q2', $ts; $s * 1000 + $ns / 1e6 }
$| = 1;
my ($mib) = @ARGV;
my $noise = ''; my $x = 12345;
for (1 .. 65536) { $x = ($x * 1103515245 + 12345) & 0x7fffffff; $noise .= pack('V', $x) }
my @held;
for my $i (1 .. $mib) { push @held, $noise . ("row $i of the table\\n" x 43691) }
print "ready\\n";
my $last = now 1;
while (1) {
  select undef, undef, undef, 0.001;
  my $now = now 1;
  my $gap = $now - $last;
  printf "gap %.3f %.3f\\n", now(0), $gap if $gap > ${NOTABLE_MS};
  $last = now 1;
}`;

export interface StallProbe {
  readonly pod: LabPod;
  readonly containerId: string;
  /** In the lab node's pid namespace. */
  readonly nsPid: number;
  readonly residentBytes: number;
  /** The longest time that the container stood still since the wall-clock time given, in ms. */
  longestSince(sinceMs: number): number;
}

export async function startStallProbe(node: LabNode, name: string, sizeMib: number): Promise<StallProbe> {
  const pod = await node.runPod({
    namespace: 'bench',
    name,
    containers: [{ name: CONTAINER, command: ['perl', '-e', PROGRAM, String(sizeMib)] }],
  });
  const log = () => readFileSync(join(node.hostRoot, pod.logFolder, CONTAINER, '0.log'), 'latin1');
  const deadline = Date.now() + READY_TIMEOUT_MS;
  while (!log().includes('ready')) {
    if (Date.now() > deadline) throw new Error(`the probe does not start: ${log()}`);
    await sleep(50);
  }
  const nsPid = await pod.pid(CONTAINER);
  const residentKib = Number(
    /^VmRSS:\s+(\d+)/m.exec(readFileSync(join(node.procRoot, String(nsPid), 'status'), 'latin1'))?.[1] ?? 0,
  );
  return {
    pod,
    containerId: pod.containerId(CONTAINER),
    nsPid,
    residentBytes: residentKib * 1024,
    longestSince: (sinceMs) => {
      const gaps = [...log().matchAll(/gap (\d+\.\d+) (\d+\.\d+)/g)]
        .filter(([, at]) => Number(at) >= sinceMs)
        .map(([, , gap]) => Number(gap));
      return Math.max(0, ...gaps);
    },
  };
}
