/** What every runtime owes its callers, whichever it is. Run on real parts: see test/e2e/runtime.test.ts. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, type TestContext, test } from 'vitest';
import { startFreezer } from '../../agent/capture/freeze.ts';
import type { Host } from '../../agent/host/host.ts';
import type { Runtime } from '../../agent/runtime/runtime.ts';
import { parseSelector } from '../../agent/runtime/select.ts';
import { type TargetRecord, targetSchema } from '../../evidence/manifest.ts';

/** One runtime with a target that runs. The target's processes must wake up by themselves several times a second. */
export interface RuntimeSubject extends AsyncDisposable {
  readonly runtime: Runtime;
  readonly host: Host;
  /** Texts that all mean the one target. */
  readonly names: readonly string[];
  /** Well-formed texts that mean nothing here. */
  readonly strangers: readonly string[];
  /** True for runtimes whose targets are listed. */
  readonly lists: boolean;
  /** Starts `sleep 300` in the target. */
  addProcess(): Promise<void>;
  /** Ends every process of the target. */
  end(): Promise<void>;
}

const soon = () => AbortSignal.timeout(30_000);

/** How often a process has gone to sleep by itself, proc(5) status: it grows as long as the process runs. */
export function turns(host: Host, pid: number): number {
  const status = readFileSync(path.join(host.procRoot, String(pid), 'status'), 'utf8');
  return Number(/^voluntary_ctxt_switches:\s+(\d+)/m.exec(status)?.[1]);
}

/** Waits until the process is seen running; fails after `timeoutMs`. */
export async function expectRuns(host: Host, pid: number, timeoutMs = 10_000): Promise<void> {
  const before = turns(host, pid);
  const until = performance.now() + timeoutMs;
  while (turns(host, pid) <= before + 1) {
    if (performance.now() > until) throw new Error(`process ${pid} did not run within ${timeoutMs} ms`);
    await sleep(10);
  }
}

export async function expectStands(host: Host, pid: number): Promise<void> {
  // The guard's reading of registers turns each thread once or twice as well.
  for (let tries = 0; tries < 5; tries += 1) {
    const before = turns(host, pid);
    await sleep(200);
    if (turns(host, pid) === before) return;
  }
  throw new Error(`process ${pid} does not stand still`);
}

/** The process that `addProcess` started, by its command line. */
export function isSleeper(host: Host, pid: number): boolean {
  try {
    return readFileSync(path.join(host.procRoot, String(pid), 'cmdline'), 'latin1').includes('sleep\u0000300');
  } catch {
    return false;
  }
}

export function runtimeContract(kind: string, start: (context: TestContext) => Promise<RuntimeSubject>): void {
  describe(`the ${kind} runtime`, () => {
    test('says what it is', async (context) => {
      await using subject = await start(context);
      const { name, version } = await subject.runtime.identify(soon());
      expect(name).not.toBe('');
      expect(version).not.toBe('');
    });

    test('finds its target by every name, with the first process first', async (context) => {
      await using subject = await start(context);
      const records: TargetRecord[] = [];
      for (const name of subject.names) {
        const target = await subject.runtime.resolve(parseSelector(name), soon());
        records.push(targetSchema.parse(target.record));
        expect(target.record.pids[0]).toBe(target.record.initPid);
        for (const { name: document, bytes } of target.documents) {
          expect(JSON.parse(Buffer.from(bytes).toString('utf8')), document).toBeTruthy();
        }
        expect(new Set(target.documents.map((one) => one.name)).size).toBe(target.documents.length);
      }
      expect(new Set(records.map(({ id }) => id)).size).toBe(1);
      const listed = await subject.runtime.list(soon());
      expect(listed.some(({ id }) => id === records[0]?.id)).toBe(subject.lists);
    });

    test('knows no strangers', async (context) => {
      await using subject = await start(context);
      for (const stranger of subject.strangers) {
        const asked = subject.runtime.resolve(parseSelector(stranger), soon());
        await expect(asked, stranger).rejects.toMatchObject({ code: 'target-not-found' });
      }
    });

    test('sees a process that came after the target was resolved', async (context) => {
      await using subject = await start(context);
      const target = await subject.runtime.resolve(parseSelector(subject.names[0] ?? ''), soon());
      const before = await subject.runtime.pids(target, soon());
      expect(before[0]).toBe(target.record.initPid);
      expect(before.some((pid) => isSleeper(subject.host, pid))).toBe(false);
      await subject.addProcess();
      const after = await subject.runtime.pids(target, soon());
      expect(after[0]).toBe(target.record.initPid);
      expect(after.some((pid) => isSleeper(subject.host, pid))).toBe(true);
      expect(new Set(after).size).toBe(after.length);
    });

    test('gives a spec by which the guard stops the target and lets it go', async (context) => {
      await using subject = await start(context);
      const { freeze, record } = await subject.runtime.resolve(parseSelector(subject.names[0] ?? ''), soon());
      if (freeze === undefined) throw new Error('there is no way to freeze it');
      await using freezer = await startFreezer(freeze, soon());
      const frozen = await freezer.freeze({ deadlineMs: 20_000, signal: soon() });
      await expectStands(subject.host, record.initPid);
      expect(await frozen.thaw()).toMatchObject({ method: freeze.kind, thawedBy: 'agent' });
      await expectRuns(subject.host, record.initPid);
    });

    test('has nothing to resume in a target that runs', async (context) => {
      await using subject = await start(context);
      const target = await subject.runtime.resolve(parseSelector(subject.names[0] ?? ''), soon());
      expect(await subject.runtime.resumeIfPaused(target)).toBe(false);
    });

    test('has no processes and no target after the end', async (context) => {
      await using subject = await start(context);
      const name = subject.names[0] ?? '';
      const target = await subject.runtime.resolve(parseSelector(name), soon());
      await subject.end();
      // The kernel lists a process that ends until it has been reaped.
      await expect.poll(() => subject.runtime.pids(target, soon()), { timeout: 3_000 }).toEqual([]);
      const again = await subject.runtime.resolve(parseSelector(name), soon()).catch((error: unknown) => error);
      expect(['target-not-found', 'target-not-running']).toContain(
        again instanceof Error && 'code' in again ? again.code : again,
      );
    });

    test('stops asking when it is told to', async (context) => {
      await using subject = await start(context);
      const asked = subject.runtime.resolve(parseSelector(subject.names[0] ?? ''), AbortSignal.abort());
      await expect(asked).rejects.toMatchObject({ code: 'cancelled' });
      await expect(subject.runtime.identify(AbortSignal.abort())).rejects.toMatchObject({ code: 'cancelled' });
    });
  });
}
