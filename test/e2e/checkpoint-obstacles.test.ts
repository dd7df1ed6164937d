/** Whole captures of containers that CRIU stumbles over: the plan says so, CRIU says the same, and the rest is all there. */
import { rmSync } from 'node:fs';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type Preflight, preflightSchema, type RungRecord, rungRecordSchema } from '../../evidence/dump.ts';
import type { Manifest, RequestRecord } from '../../evidence/manifest.ts';
import { startAgent } from '../lab/agent.ts';
import { type LabNode, startNode } from '../lab/node.ts';
import { holdObstacle, installObstacles, LAB_OBSTACLES, type LabObstacle } from '../lab/obstacles.ts';
import { labObstacle, requireLab } from '../lab/requires.ts';
import { json } from './readers.ts';

/** One of each kind, and one that is none. */
const ONE_OF_EACH = [
  ...new Map(LAB_OBSTACLES.toReversed().map((one) => [one.predicted?.kind ?? 'none', one])).values(),
].toReversed();

let node: LabNode;
let agent: Awaited<ReturnType<typeof startAgent>>;
let noCompiler: string | undefined;

beforeAll(async () => {
  if (labObstacle() !== undefined) return;
  node = await startNode();
  noCompiler = installObstacles(node);
  agent = await startAgent(node);
});
afterAll(async () => {
  await agent?.[Symbol.asyncDispose]();
  await node?.[Symbol.asyncDispose]();
});
beforeEach((context) => {
  requireLab(context);
  if (noCompiler !== undefined) context.skip(noCompiler);
});

/** A capture of everything, its request and its manifest; verified. */
async function capture(containerId: string) {
  const { code, stdout, stderr } = await agent.exhibit('capture', containerId);
  expect(stderr).not.toMatch(/\bat .*\.ts:\d+/);
  const id = /[0-9a-f]{8}-[0-9a-f-]{27}/.exec(stdout)?.[0] ?? 'no id';
  const folder = `${agent.evidence}/lab/lab-node/${id}`;
  const verified = await agent.exhibit('verify', folder);
  expect(verified.code, verified.stdout + verified.stderr).toBe(0);
  const manifest = json<Manifest>(folder, 'manifest.json');
  const request = json<RequestRecord>(folder, 'request.json');
  rmSync(folder, { recursive: true });
  return { code, manifest, request };
}

/** What cannot be read of a process, whatever one does: pages that the kernel gives to nobody. */
const UNREADABLE: Readonly<Record<string, readonly string[]>> = {
  'unsupported-mapping': ['processes', 'memory'],
  uprobes: ['memory'],
};

function checkpointOf(manifest: Manifest) {
  const artifact = manifest.artifacts.find(({ name }) => name === 'checkpoint');
  if (artifact === undefined) throw new Error('no checkpoint artifact');
  const records = ((artifact.facts.rungs ?? []) as RungRecord[]).map((one) => rungRecordSchema.parse(one));
  return { artifact, records };
}

function expectPlanned(preflight: Preflight | undefined, { predicted }: LabObstacle): void {
  const kinds = new Set(preflight?.obstacles.map(({ kind }) => kind));
  expect([...kinds]).toEqual(predicted === undefined ? [] : [predicted.kind]);
}

function expectOutcome(manifest: Manifest, { predicted, refusal }: LabObstacle): void {
  const { artifact, records } = checkpointOf(manifest);
  const [tasks, cri] = [records.find(({ rung }) => rung === 'tasks'), records.find(({ rung }) => rung === 'cri')];
  if (refusal === undefined || predicted?.liftedBy !== undefined) {
    // What an option lifts, the rung that passes it takes; a forecast that was too dark is not believed blindly.
    expect(artifact.status).toBe('captured');
    expect(tasks).toMatchObject({
      outcome: 'worked',
      expected: predicted?.certainty === 'likely' ? 'may-fail' : 'works',
    });
    if (predicted?.liftedBy !== undefined) {
      expect(tasks?.options[predicted.liftedBy]).toBe(true);
      expect(cri).toMatchObject({ outcome: 'not-tried', expected: 'fails' });
      expect(cri?.reasons.length).toBeGreaterThan(0);
    }
    return;
  }
  if (predicted?.kind === 'traced') {
    expect(artifact).toMatchObject({ status: 'skipped', reason: expect.stringContaining('nobody is asked for it') });
    return;
  }
  expect(artifact.status).toBe('failed');
  expect(artifact.objects).toEqual(['checkpoint-logs.tar.zst']);
  const expected = predicted?.certainty === 'likely' ? 'may-fail' : 'fails';
  expect(tasks).toMatchObject({ outcome: 'failed', expected });
  expect(tasks?.reasons.length).toBeGreaterThan(0);
  expect(tasks?.criu?.errors.join('\n')).toMatch(refusal);
  expect(artifact.reason).toContain('CRIU says');
  // One refusal is enough where it is certain.
  expect(cri?.outcome).toBe(expected === 'fails' ? 'not-tried' : 'failed');
}

describe('a capture of a container that holds', () => {
  test.for(ONE_OF_EACH.map((one) => [one.predicted?.kind ?? 'nothing of the kind', one] as const))(
    '%s',
    async ([, obstacle], context) => {
      await using held = await holdObstacle(node, obstacle);
      if (held.refused !== undefined) return context.skip(`needs a kernel that gives it: ${held.refused}`);
      const { manifest, request } = await capture(held.containerId);
      expectPlanned(request.plan.checkpoint?.preflight, obstacle);
      expectPlanned(preflightSchema.parse(checkpointOf(manifest).artifact.facts.preflight), obstacle);
      expectOutcome(manifest, obstacle);
      const others = manifest.artifacts.filter(({ name }) => name !== 'checkpoint');
      const incomplete = others.filter(({ status }) => status !== 'captured');
      expect(incomplete.map(({ name }) => name)).toEqual(UNREADABLE[obstacle.predicted?.kind ?? ''] ?? []);
      for (const { status, gapCount } of incomplete) expect([status, gapCount]).toEqual(['partial', 1]);
      const { stdout } = await node.exec(['ctr', '-n', 'k8s.io', 'tasks', 'ls']);
      expect(stdout.toString()).toMatch(new RegExp(`${held.containerId}\\s+\\d+\\s+RUNNING`));
    },
  );
});
