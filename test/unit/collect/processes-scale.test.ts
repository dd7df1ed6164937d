import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { processesCollector } from '../../../agent/collect/processes.ts';
import { fakeContext } from './proc-context.ts';

/** 1,000 processes that share 17 descriptors and have three of their own: pipe, socket pair, deleted file, plain files. */
const CROWD = `
use Socket; pipe(my $stop, my $keep); $| = 1; my @mine; my @pids;
open($mine[$_], '<', '/etc/passwd') for 0 .. 11;
socketpair(my $left, my $right, AF_UNIX, SOCK_STREAM, PF_UNSPEC);
for (1 .. 1000) {
  my $pid = fork; if ($pid) { push @pids, $pid; next }
  close $keep; pipe(my $r, my $w); open(my $f, '<', '/etc/hostname'); sysread $stop, my $x, 1; exit;
}
print "@pids\\n"; <STDIN>;`;

/** Figures for docs/volatile.md: \`EXHIBIT_SCALE=1 vitest run test/unit/collect/processes-scale.test.ts\`, on a quiet machine. */
describe.skipIf(process.env.EXHIBIT_SCALE === undefined)('at scale (skipped unless EXHIBIT_SCALE is set)', () => {
  test('1,000 processes with 22,000 descriptors are taken without a gap, and it prints what that cost', async () => {
    const crowd = spawn('perl', ['-e', CROWD], { stdio: ['pipe', 'pipe', 'inherit'] });
    try {
      let text = '';
      crowd.stdout.on('data', (chunk) => {
        text += String(chunk);
      });
      while (!text.endsWith('\n')) await sleep(50);
      const { context, written } = fakeContext({ procRoot: '/proc', hostRoot: '' }, text.trim().split(' ').map(Number));
      const before = process.cpuUsage();
      const startedAt = performance.now();
      await processesCollector().collect(context);
      const cpu = process.cpuUsage(before);
      const agentMs = Math.round((cpu.user + cpu.system) / 1000);
      const wallMs = Math.round(performance.now() - startedAt);
      const readerMs = Number(written.facts.readerCpuMs);
      const { processes, descriptors } = written.facts;
      console.log({ processes, descriptors, members: written.members.size, readerMs, agentMs, wallMs });
      expect(written.gaps).toEqual([]);
      expect({ processes, descriptors }).toEqual({ processes: 1000, descriptors: 22_000 });
    } finally {
      crowd.kill('SIGKILL');
    }
  }, 60_000);
});
