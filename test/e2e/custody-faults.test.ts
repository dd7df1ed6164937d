import { randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { accountFor, readBundle, writeBundle } from '../lab/account.ts';
import { runCli } from '../lab/agent.ts';
import {
  type CustodyAgent,
  type CustodyLab,
  captureIdOf,
  isDone,
  startCustodyLab,
  untilSealed,
} from '../lab/custody-lab.ts';
import { labObstacle, requireLab, requireS3, s3Obstacle } from '../lab/requires.ts';
import type { S3Fault, SeenRequest } from '../lab/s3-proxy.ts';

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

const LAYER = 'rootfs.tar.zst';
const ofLayer = ({ operation, key }: SeenRequest) => operation === 'UploadPart' && key.endsWith(LAYER);
/** Six parts of 5 MiB: before each of them, and before the completion. */
const BOUNDARIES = [1, 2, 3, 4, 5, 6, 7];
const atBoundary = (request: SeenRequest, boundary: number) =>
  boundary === BOUNDARIES.length
    ? request.operation === 'CompleteMultipartUpload' && request.key.endsWith(LAYER)
    : ofLayer(request) && request.part === boundary;

/** Few and soon, so that the budget of a request is spent in a moment. */
const IMPATIENT = { retry: { attempts: 3, firstWaitMs: 20, longestWaitMs: 100 } };

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

/** Everything is in the server and adds up, and the target runs. */
async function expectWhole(id: string, agent?: CustodyAgent): Promise<void> {
  await untilSealed(lab, id, agent);
  const account = await lab.account(id, agent);
  expect(account.problems).toEqual([]);
  expect(account.gaps).toEqual([]);
  expect(account.found).toBe(FILES);
  expect(account.manifest?.outcome).toBe('complete');
  expect(await lab.frozen()).toBeUndefined();
}

/** Everything is in the server, and the product thinks so too: the account alone is quicker, and is nothing of the product's. */
async function expectIntact(id: string, agent?: CustodyAgent): Promise<void> {
  await expectWhole(id, agent);
  const verified = await verify(id);
  expect(verified.code, verified.stdout).toBe(0);
}

describe('S3 killed and started again', () => {
  let agent: CustodyAgent;
  beforeAll(async () => {
    if (runs) agent = await lab.agent({ sink: IMPATIENT });
  }, 120_000);
  afterAll(async () => {
    if (runs) await agent[Symbol.asyncDispose]();
  }, 60_000);

  test('at every part boundary of one artifact, at once: nothing is missing', async () => {
    const id = newId();
    lab.proxy.fault = async (request) => {
      if (request.earlierHere > 0 || !BOUNDARIES.some((boundary) => atBoundary(request, boundary))) return undefined;
      await lab.s3.kill();
      await lab.s3.restart();
      return { kind: 'reset', afterBytes: 0 };
    };
    const captured = await capture(agent, id);
    expect(captured.code, captured.stderr).toBe(0);
    await expectIntact(id, agent);
  });

  test.for(BOUNDARIES)('at boundary %i, to come back after the capture: nothing is missing', async (boundary) => {
    const id = newId();
    let dead = false;
    lab.proxy.fault = async (request) => {
      if (!dead && atBoundary(request, boundary)) {
        dead = true;
        await lab.s3.kill();
      }
      return undefined;
    };
    const captured = await capture(agent, id);
    expect(captured.code, captured.stderr).toBe(0);
    expect(dead).toBe(true);
    await lab.calm();
    await expectWhole(id, agent);
  });
});

describe('a network that is faulty for longer than a request is tried', () => {
  const always = (fault: S3Fault) => () => fault;
  test.for<[string, (request: SeenRequest) => S3Fault | undefined]>([
    ['503 SlowDown to everything', always({ kind: 'answer', status: 503, code: 'SlowDown' })],
    ['500 to everything', always({ kind: 'answer', status: 500, code: 'InternalError' })],
    [
      'a reset in the middle of every part',
      (request) => (ofLayer(request) ? { kind: 'reset', afterBytes: 2_000_000 } : undefined),
    ],
    ['a lost answer to every request', always({ kind: 'lose-answer' })],
    [
      'a lost answer to every completion',
      ({ operation }) => (operation === 'CompleteMultipartUpload' ? { kind: 'lose-answer' } : undefined),
    ],
    ['expired credentials', always({ kind: 'answer', status: 400, code: 'ExpiredToken' })],
  ])('by %s keeps nothing from the bundle in the end', async ([, fault]) => {
    await using agent = await lab.agent({ sink: IMPATIENT });
    const id = newId();
    let answered = 0;
    // The capture is accepted first: a sink that never answered is no sink.
    lab.proxy.fault = (request) => {
      answered += 1;
      return answered > 3 ? fault(request) : undefined;
    };
    const captured = await capture(agent, id);
    expect(captured.code, captured.stderr).toBe(0);
    await lab.calm();
    await expectWhole(id, agent);
  });

  test('by a connection that stalls in the middle of a part keeps nothing from the bundle', async () => {
    await using agent = await lab.agent({ sink: IMPATIENT });
    const id = newId();
    lab.proxy.fault = (request) =>
      ofLayer(request) && request.part === 3 && request.earlierHere === 0
        ? { kind: 'stall', afterBytes: 1_000_000 }
        : undefined;
    const captured = await capture(agent, id);
    expect(captured.code, captured.stderr).toBe(0);
    await expectIntact(id, agent);
  });

  test('by wrong checksums for ever reports nothing as stored that is not', async () => {
    await using agent = await lab.agent({ sink: IMPATIENT });
    const id = newId();
    lab.proxy.fault = (request) => (ofLayer(request) ? { kind: 'wrong-checksum' } : undefined);
    const captured = await capture(agent, id);
    expect(captured.code, captured.stderr).toBe(0);
    await lab.calm();
    await untilSealed(lab, id, agent);
    const account = await lab.account(id, agent);
    expect(account.problems).toEqual([]);
    const verified = await verify(id);
    expect(verified.code, verified.stdout).toBe(0);
    expect(await lab.frozen()).toBeUndefined();
  });
});

/** Moves the clock that the agent's program reads. */
const clockOffBy = (minutes: number): NodeJS.ProcessEnv => ({
  NODE_OPTIONS: `--import data:text/javascript,${encodeURIComponent(`
    const now = Date.now;
    Date.now = () => now() + ${minutes * 60_000};
    globalThis.Date = new Proxy(Date, {
      construct: (date, args, target) => Reflect.construct(date, args.length === 0 ? [Date.now()] : args, target),
    });
  `)}`,
});

interface CustodyLine {
  readonly clock?: { readonly offsetMs: number };
}

describe('a clock of the node', () => {
  test.for([20, -20])(
    'that is %i minutes off keeps nothing from the bundle, which says by how much',
    async (minutes) => {
      // The agent may learn S3's time before the capture, when it looks whether one would work.
      const before = lab.proxy.requests.length;
      await using agent = await lab.agent({ env: clockOffBy(minutes) });
      const id = newId();
      const captured = await capture(agent, id);
      expect(captured.code, captured.stderr).toBe(0);
      const refused = lab.proxy.requests.slice(before).filter(({ status }) => status === 403);
      expect(refused.length).toBeGreaterThan(0);
      await expectIntact(id, agent);
      const log = (await readBundle(lab.store, lab.bundleKey(id))).get('custody.jsonl')?.toString() ?? '';
      const lines = log
        .trimEnd()
        .split('\n')
        .map((line): CustodyLine => JSON.parse(line));
      const offsets = lines.flatMap(({ clock }) => (clock === undefined ? [] : [clock.offsetMs / 60_000]));
      expect(offsets.length).toBeGreaterThan(0);
      for (const offset of offsets) expect(offset).toBeCloseTo(-minutes, 0);
    },
  );
});

function filesBelow(folder: string): Map<string, Buffer> {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const paths = files.map((entry) => path.join(entry.parentPath, entry.name));
  return new Map(paths.map((file) => [path.relative(folder, file), readFileSync(file)]));
}

describe('S3 away for a whole capture', () => {
  test.for(['SIGTERM', 'SIGKILL'] as const)(
    'and the agent ended by %s while evidence waits: the next agent brings it',
    async (signal) => {
      const agent = await lab.agent({ sink: IMPATIENT });
      const id = newId();
      await lab.proxy.away();
      const captured = await capture(agent, id, '--case', 'IR-secret-case');
      expect(captured.code, captured.stderr).toBe(0);
      const secrets = [await lab.plantedBytes(), Buffer.from('IR-secret-case'), Buffer.from('target-0')];
      const waiting = filesBelow(lab.spoolOf(agent));
      expect(Buffer.concat([...waiting.values()]).length).toBeGreaterThan(FILES * 2 ** 20);
      for (const [name, bytes] of waiting) {
        for (const secret of secrets) expect(bytes.includes(secret) || name.includes(`${secret}`), name).toBe(false);
      }
      if (signal === 'SIGTERM') await agent.stop();
      else await agent.kill();
      expect(await lab.store.versions(lab.bundleKey(id))).toEqual([]);
      await lab.proxy.back();
      await using heir = await lab.agent({ sink: IMPATIENT, folder: agent.folder });
      await expectIntact(id, heir);
      const shown = await heir.exhibit('show', id, '--json');
      expect(isDone(shown.stdout)).toBe(true);
      // They would have been found if anything had lain there as it is.
      const bundle = await readBundle(lab.store, lab.bundleKey(id));
      expect(bundle.get(LAYER)?.includes(secrets[0] ?? '')).toBe(true);
      expect(bundle.get('request.json')?.includes('IR-secret-case')).toBe(true);
    },
  );

  test('and the node booted anew: the next agent brings it from a spool on a disk, with the key in a file', async () => {
    const disk = mkdtempSync(path.join(tmpdir(), 'exhibit-spool-'));
    try {
      const keyFile = path.join(disk, 'key');
      writeFileSync(keyFile, randomBytes(32));
      const config = { spool: { path: path.join(disk, 'spool'), disk: true, keyFile } };
      const agent = await lab.agent({ sink: IMPATIENT, config });
      const id = newId();
      await lab.proxy.away();
      const captured = await capture(agent, id);
      expect(captured.code, captured.stderr).toBe(0);
      await agent.kill();
      rmSync(path.dirname(lab.spoolOf(agent)), { recursive: true });
      await lab.proxy.back();
      await using heir = await lab.agent({ sink: IMPATIENT, config, folder: agent.folder });
      await expectIntact(id, heir);
      // The journal was in memory, and the draft on the disk says what it said.
      const shown = await heir.exhibit('show', id, '--json');
      expect(JSON.parse(shown.stdout)).toMatchObject({ captureId: id, state: 'complete', error: null });
    } finally {
      rmSync(disk, { recursive: true, force: true });
    }
  });

  test('with a spool that is too small keeps the most volatile, and a gap with numbers has the rest', async () => {
    await using agent = await lab.agent({ sink: IMPATIENT, config: { spool: { bytes: 12 * 2 ** 20 } } });
    const id = newId();
    await lab.proxy.away();
    const captured = await capture(agent, id);
    expect(captured.code, captured.stderr).toBeLessThan(2);
    await lab.proxy.back();
    await untilSealed(lab, id, agent);
    const account = await lab.account(id, agent);
    expect(account.problems).toEqual([]);
    const status = new Map(account.manifest?.artifacts.map((one) => [one.name, one.status]));
    expect(status.get('processes')).toBe('captured');
    expect(status.get('network')).toBe('captured');
    expect(['partial', 'failed']).toContain(status.get('rootfs'));
    expect(
      account.gaps.filter((gap) => gap.includes(LAYER) && /\d{7,} stored bytes|byte \d+ of/.test(gap)),
    ).not.toEqual([]);
    expect(account.found).toBeLessThan(FILES);
    const verified = await verify(id);
    expect(verified.code, verified.stdout).toBe(0);
    expect(await lab.frozen()).toBeUndefined();
  });
});
