import { rmSync } from 'node:fs';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { accountFor, readBundle, writeBundle } from '../lab/account.ts';
import { runCli } from '../lab/agent.ts';
import { type CustodyAgent, type CustodyLab, captureIdOf, startCustodyLab, untilSealed } from '../lab/custody-lab.ts';
import { labObstacle, requireLab, requireS3, s3Obstacle } from '../lab/requires.ts';

/** The fault table on the whole agent: whatever happens, each byte is in the bundle with its digest, or in a gap. */

const FILES = 26;
const runs = labObstacle() === undefined && s3Obstacle() === undefined;

let lab: CustodyLab;
let next = 1;
const newId = () => captureIdOf(next++);

beforeAll(async () => {
  if (runs) lab = await startCustodyLab({ files: FILES });
}, 120_000);
afterAll(async () => {
  if (runs) await lab[Symbol.asyncDispose]();
}, 60_000);
beforeEach((context) => {
  requireLab(context);
  requireS3(context);
});
beforeEach(async () => {
  if (runs) await lab.calm();
});

const ARTIFACTS = 'processes,network,rootfs,logs,spec';

const capture = (agent: CustodyAgent, id: string, ...more: string[]) =>
  agent.exhibit('capture', lab.selector, '--id', id, '--artifacts', ARTIFACTS, ...more);

/** `exhibit verify` of what is in the server. */
async function verify(id: string): Promise<{ code: number; stdout: string }> {
  const folder = writeBundle(await readBundle(lab.store, lab.bundleKey(id)));
  try {
    return await runCli(['verify', folder]);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

describe('the account', () => {
  test('of a capture without a fault has no problem, and names what is done to the bundle afterwards', async () => {
    await using agent = await lab.agent();
    const id = newId();
    const captured = await capture(agent, id);
    expect(captured.code, captured.stderr).toBe(0);
    await untilSealed(lab, id, agent);
    const account = await lab.account(id, agent);
    expect(account.problems).toEqual([]);
    expect(account.found).toBe(FILES);
    expect(lab.proxy.refused).toEqual([]);
    const parts = lab.proxy.requests.filter(
      ({ operation, key }) => operation === 'UploadPart' && key.endsWith('rootfs.tar.zst'),
    );
    expect(parts.length).toBeGreaterThanOrEqual(6);
    expect((await verify(id)).code).toBe(0);

    const bundle = await readBundle(lab.store, lab.bundleKey(id));
    const changed = (change: (bundle: Map<string, Buffer>) => void) => {
      const copy = new Map(bundle);
      change(copy);
      return accountFor(copy, lab.planted).problems.join('\n');
    };
    const layer = bundle.get('rootfs.tar.zst') ?? Buffer.of();
    const flipped = Buffer.from(layer);
    flipped[layer.length >> 1] = (flipped[layer.length >> 1] ?? 0) ^ 1;
    expect(changed((copy) => copy.set('rootfs.tar.zst', flipped))).toContain('rootfs.tar.zst is reported with');
    expect(changed((copy) => copy.set('rootfs.tar.zst', layer.subarray(0, 10_000_000)))).toMatch(
      /planted\/\d+ is not there/,
    );
    expect(changed((copy) => copy.delete('logs.tar.zst'))).toContain('logs.tar.zst is reported as stored, and is not');
    expect(changed((copy) => copy.set('more', Buffer.of(1)))).toContain('the manifest does not know it');
    expect(changed((copy) => copy.delete('manifest.dsse.json'))).toContain('not sealed');
  });
});
