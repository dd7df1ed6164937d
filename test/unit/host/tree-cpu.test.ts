import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, expect, test } from 'vitest';
import { openTreeCpu } from '../../../agent/host/tree-cpu.ts';

/** Uses the processor for so long, says so, and waits to be ended. */
const BUSY =
  'const { cpuUsage } = process; while (cpuUsage().user + cpuUsage().system < 300_000); process.stdout.write("done"); setInterval(() => {}, 1e6)';

describe('what the agent and its helpers have used of the processors', () => {
  test('counts a child while it runs and after it has ended, once', async () => {
    // Threads of a test runner are no main threads, and have started nothing: here it is asked in a process of its own.
    const program = `
      import { spawn } from 'node:child_process';
      import { once } from 'node:events';
      import { openTreeCpu } from ${JSON.stringify(new URL('../../../agent/host/tree-cpu.ts', import.meta.url).href)};
      let now = 0;
      const cpu = openTreeCpu({ procRoot: '/proc', now: () => (now += 1000), ownMs: () => 7 });
      const before = cpu();
      const child = spawn(process.execPath, ['-e', ${JSON.stringify(BUSY)}], { stdio: ['ignore', 'pipe', 'ignore'] });
      await once(child.stdout, 'data');
      const running = cpu();
      child.kill('SIGKILL');
      await once(child, 'close');
      console.log(JSON.stringify([before, running, cpu()]));`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let said = '';
    child.stdout.on('data', (piece: Buffer) => {
      said += piece.toString();
    });
    await once(child, 'close');
    const [before = 0, running = 0, ended = 0] = JSON.parse(said) as number[];
    expect(before).toBe(7);
    expect(running).toBeGreaterThanOrEqual(7 + 290);
    // A tick may be told late; twice as much would be a child that counts twice.
    expect(ended).toBeGreaterThanOrEqual(running);
    expect(ended).toBeLessThan(7 + (running - 7) * 1.5);
  });

  test('looks at children no more than every few milliseconds, and never goes back', () => {
    let nowMs = 0;
    let own = 5;
    const cpu = openTreeCpu({ procRoot: '/nonexistent', now: () => nowMs, ownMs: () => own });
    const first = cpu();
    own = 6;
    nowMs = 1;
    expect(cpu() - first).toBe(1);
    nowMs = 1000;
    expect(cpu()).toBeGreaterThanOrEqual(first + 1);
  });
});
