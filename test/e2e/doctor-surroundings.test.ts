import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { stringify } from 'yaml';
import type { Check } from '../../agent/doctor/check.ts';
import { checkClock } from '../../agent/doctor/evidence.ts';
import { openS3Sink } from '../../agent/sink/s3.ts';
import { runCli, startAgent } from '../lab/agent.ts';
import { startDocker } from '../lab/docker.ts';
import { startNode } from '../lab/node.ts';
import { requireDocker, requireLab, requireS3 } from '../lab/requires.ts';
import { startS3 } from '../lab/s3.ts';

/** Nodes where something is wrong, on real parts: what the doctor says, and whether the agent gets ready by itself. */

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-around-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const PATIENCE_MS = 60_000;
async function until(what: () => boolean): Promise<void> {
  for (const end = Date.now() + PATIENCE_MS; !what(); await sleep(50))
    if (Date.now() > end) throw new Error(`not within ${PATIENCE_MS} ms: ${what}`);
}

test('an agent that came before its runtime becomes ready when the socket appears, and captures', async (context) => {
  requireLab(context);
  await using node = await startNode();
  await node.runPod({ namespace: 'prod', name: 'web-0', containers: [{ name: 'web' }] });
  const socket = path.join(folder, 'late.sock');
  await using agent = await startAgent(node, { config: { runtime: { socket } } });
  await until(() => agent.log().includes('a capture would not work'));
  expect(agent.log()).toContain(`runtime: there is no runtime socket at ${socket}`);
  const refused = await agent.exhibit('capture', 'prod/web-0', '--artifacts', 'processes');
  expect(refused.code).toBe(1);
  expect(refused.stderr).toContain(`no runtime socket at ${socket}`);
  symlinkSync(node.socket, socket);
  // The capture that failed counts until one works, and is no reason to look away from what is there now.
  await until(
    () => !agent.log().slice(agent.log().lastIndexOf('would not work')).includes('no container can be captured'),
  );
  const taken = await agent.exhibit('capture', 'prod/web-0', '--artifacts', 'processes', '--json');
  expect(taken.code, taken.stderr).toBe(0);
  await until(() => agent.log().includes('"a capture would work"'));
});

test('a node with Docker alone is told to say so', async (context) => {
  requireDocker(context);
  await using node = await startDocker({ cgroup: 'v2' });
  const runtime = {
    kind: 'cri',
    hostRoot: node.hostRoot,
    procRoot: node.procRoot,
    socket: '/nonexistent/containerd.sock',
  };
  const file = path.join(folder, 'agent.yaml');
  const examined = async (kind: object) => {
    const sink = { url: `file://${folder}/evidence` };
    writeFileSync(
      file,
      stringify({ cluster: 'lab', runtime: { ...runtime, ...kind }, sink, stateDir: '/run/exhibit' }),
    );
    const { stdout } = await runCli(['doctor', '--config', file, '--json']);
    const { checks } = JSON.parse(stdout) as { checks: Check[] };
    return checks.find(({ name }) => name === 'runtime');
  };
  expect(await examined({})).toMatchObject({
    status: 'failure',
    mend: 'the node has Docker (/run/docker.sock): set runtime.kind: docker, as manifests/overlays/docker does',
  });
  expect(await examined({ kind: 'docker', socket: node.socket })).toMatchObject({ status: 'ok' });
});

describe('a node whose clock is twenty minutes off', () => {
  beforeEach((context) => requireS3(context));
  afterEach(() => void vi.useRealTimers());

  test.each([
    ['behind', -20 * 60_000, 'the clock is 20 min'],
    ['ahead', 20 * 60_000, 'the clock is'],
  ])('%s S3: evidence is taken all the same, and the doctor says the clock', async (words, offMs, found) => {
    const s3 = await startS3();
    try {
      const { accessKeyId, secretAccessKey } = s3;
      vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + offMs });
      await using sink = openS3Sink(
        { url: `s3://${s3.bucket}`, endpoint: s3.endpoint, forcePathStyle: true, ifNoneMatch: false },
        { credentials: { accessKeyId, secretAccessKey } },
      );
      // The SDK learns S3's clock from the refusal (RequestTimeTooSkewed) and signs by it.
      await sink.check(AbortSignal.timeout(30_000));
      const offset = sink.clock?.();
      const check = checkClock({ wall: '', timezone: 'UTC', synchronised: true }, offset === undefined ? [] : [offset]);
      expect(check).toMatchObject({
        status: 'warning',
        found: expect.stringContaining(words),
        mend: expect.stringContaining('chronyc'),
      });
      expect(check.found).toContain(found);
      expect(check.meaning).toContain('S3 refuses');
    } finally {
      vi.useRealTimers();
      await s3[Symbol.asyncDispose]();
    }
  });
});
