import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type CustodyLab, captureIdOf, isDone, startCustodyLab, untilSealed } from '../lab/custody-lab.ts';
import { labObstacle, requireLab, requireS3, s3Obstacle } from '../lab/requires.ts';

/** SIGKILL of the agent at twenty random moments of captures to S3: whoever comes next accounts for every byte. */

const FILES = 12;
const MOMENTS = 20;
/**
 * Moments are counted from the first request of a capture to S3, in lengths of one that was left alone. What comes before it is
 * as long again: a target is looked up, nothing is read. And a moment may lie behind the end.
 */
const EARLIEST = -0.2;
const LATEST = 1.2;
/** Longest that a capture takes from its command to its first request. */
const BEGIN_TIMEOUT_MS = 30_000;
const runs = labObstacle() === undefined && s3Obstacle() === undefined;
const ARTIFACTS = 'processes,network,memory,rootfs,logs,spec';

let lab: CustodyLab;
let folder: string;

beforeAll(async () => {
  if (!runs) return;
  lab = await startCustodyLab({ files: FILES });
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-killed-'));
}, 120_000);
afterAll(async () => {
  if (!runs) return;
  await lab[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
}, 60_000);
beforeEach((context) => {
  requireLab(context);
  requireS3(context);
});

/** Numbers from 0 to 1 of a seed: mulberry32, the same on every machine. */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The first request of a capture arrived. False when none came in time. */
async function begun(id: string): Promise<boolean> {
  const deadline = performance.now() + BEGIN_TIMEOUT_MS;
  while (!lab.proxy.requests.some(({ key }) => key.includes(id))) {
    if (performance.now() > deadline) return false;
    await sleep(2);
  }
  return true;
}

describe('SIGKILL of the agent', () => {
  test('at twenty random moments leaves no byte without an account, no upload open and nothing frozen', async () => {
    const seed = Number(process.env.EXHIBIT_TEST_SEED ?? Date.now() % 2 ** 31);
    console.log(`EXHIBIT_TEST_SEED=${seed}`);
    const random = seeded(seed);
    let agent = await lab.agent({ folder });
    const whole = captureIdOf(0x2000);
    const first = await agent.exhibit('capture', lab.selector, '--id', whole, '--artifacts', ARTIFACTS);
    expect(first.code, first.stderr).toBe(0);
    const seen = lab.proxy.requests.filter(({ key }) => key.includes(whole)).map(({ atMs }) => atMs);
    const tookMs = Math.max(...seen) - Math.min(...seen);
    const outcomes: string[] = [];
    for (let moment = 1; moment <= MOMENTS; moment += 1) {
      const id = captureIdOf(0x2000 + moment);
      const afterMs = (EARLIEST + random() * (LATEST - EARLIEST)) * tookMs;
      const client = agent.exhibit('capture', lab.selector, '--id', id, '--artifacts', ARTIFACTS);
      if (afterMs < 0) await sleep(-afterMs);
      else if (await begun(id)) await sleep(afterMs);
      await agent.kill();
      await client;
      agent = await lab.agent({ folder });
      outcomes.push(`${Math.round(afterMs)} ms: ${await endOf(id)}`);
    }
    console.log(outcomes.join('\n'));
    expect(outcomes.filter((one) => one.includes('truncated')).length).toBeGreaterThan(0);
    await agent[Symbol.asyncDispose]();

    /** What became of the capture, once the heir is done with it. Throws when a byte is unaccounted for. */
    async function endOf(id: string): Promise<string> {
      expect(await lab.frozen(), id).toBeUndefined();
      const shown = await agent.exhibit('show', id, '--json');
      const there = await lab.store.versions(lab.bundleKey(id));
      if (shown.code !== 0 && there.length === 0) {
        expect((await lab.store.unfinishedUploads()).filter(({ key }) => key.includes(id))).toEqual([]);
        return 'never begun';
      }
      await untilSealed(lab, id, agent);
      const account = await lab.account(id, agent);
      expect(account.problems, `${id}, EXHIBIT_TEST_SEED=${seed}`).toEqual([]);
      const { manifest } = account;
      if (manifest?.outcome !== 'truncated') expect([account.found, account.gaps]).toEqual([FILES, []]);
      const after = await agent.exhibit('show', id, '--json');
      expect(after.code === 0 && isDone(after.stdout), after.stdout + after.stderr).toBe(true);
      return `${manifest?.outcome}, ${account.objects.size} objects, ${account.cut.length} cut, ${account.found} of ${FILES} files`;
    }
  }, 900_000);
});
