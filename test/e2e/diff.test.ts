import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Changes, DiffDocument, KindDocument } from '../../evidence/diff/document.ts';
import { FACT_KINDS, type FactKind } from '../../evidence/facts/facts.ts';
import { type CliResult, runCli, startAgent } from '../lab/agent.ts';
import { labRoot } from '../lab/cache.mjs';
import { type LabNode, startNode } from '../lab/node.ts';
import type { LabPod } from '../lab/pod.ts';
import { labObstacle, requireLab } from '../lab/requires.ts';

/**
 * A pod of a deployment on a real containerd: a snapshot, a break-in, an incident capture by an agent that was killed in between;
 * then the next pod of the same deployment. Everything is encrypted, so the agent could not read its own snapshot.
 */

const HASH = '6d4f9b7c8d';
const DROPPED = '/tmp/.x/nc';
const PORT = 4444;

let node: LabNode;
let folder: string;
let identity: string;
/** In the order of the captures. */
let bundles: string[];
let quiet: CliResult;
let shown: CliResult;
let logged: string;
let dropped: string;

const podOf = (random: string): Promise<LabPod> =>
  node.runPod({
    namespace: 'prod',
    name: `shop-${HASH}-${random}`,
    labels: { app: 'shop', 'pod-template-hash': HASH },
    containers: [{ name: 'web' }],
  });

async function breakIn(pod: LabPod): Promise<void> {
  const busybox = readFileSync(path.join(labRoot(), 'usr/bin/busybox'));
  // busybox is what it is called; with a byte more it is no file of the image.
  const program = Buffer.concat([busybox, Buffer.from('\n')]);
  dropped = createHash('sha256').update(program).digest('hex');
  const script = [
    'mkdir -p /tmp/.x',
    `cp /bin/busybox ${DROPPED}`,
    `echo >> ${DROPPED}`,
    `chmod 755 ${DROPPED}`,
    "echo 'upstream = 203.0.113.7' >> /app/config.ini",
    "echo 'toor::0:0::/:/bin/sh' >> /etc/passwd",
    `setsid ${DROPPED} -l -p ${PORT} < /dev/null > /dev/null 2>&1 &`,
    `until grep -q ' 0A ' /proc/net/tcp /proc/net/tcp6; do :; done`,
  ].join('\n');
  const { code, stderr } = await pod.exec('web', ['sh', '-c', script]);
  if (code !== 0) throw new Error(stderr.toString());
}

beforeAll(async () => {
  if (labObstacle() !== undefined) return;
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-e2e-diff-'));
  const secret = await generateX25519Identity();
  identity = path.join(folder, 'identity.txt');
  writeFileSync(identity, `${secret}\n`);
  const recipient = await identityToRecipient(secret);
  const config = {
    sink: { url: `file://${folder}/evidence` },
    encryption: { recipients: [recipient] },
    baselines: { from: ['socket'] },
  };
  const artifacts = ['--artifacts', 'processes,network,node,rootfs'];
  node = await startNode();
  const pod = await podOf('x2x4z');
  const first = await startAgent(node, { config });
  const { folder: state } = first;
  await first.exhibit('capture', `prod/${pod.name}`, ...artifacts);
  quiet = await first.exhibit('capture', `prod/${pod.name}`, ...artifacts);
  await first.kill();
  await breakIn(pod);
  {
    await using second = await startAgent(node, { config, folder: state });
    await second.exhibit('capture', `prod/${pod.name}`, ...artifacts);
    await pod.stop();
    const next = await podOf('z9z8w');
    await second.exhibit('capture', `prod/${next.name}`, ...artifacts);
    const [newest] = JSON.parse((await second.exhibit('captures', '--json')).stdout).captures;
    shown = await second.exhibit('show', newest.captureId);
    logged = second.log();
  }
  const base = path.join(folder, 'evidence', 'lab', 'lab-node');
  bundles = readdirSync(base)
    .sort()
    .map((name) => path.join(base, name));
}, 180_000);

afterAll(async () => {
  if (labObstacle() !== undefined) return;
  await node[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
}, 60_000);

beforeEach((context) => requireLab(context));

const bundle = (index: number): string => bundles[index] ?? 'none';

async function changesIn(index: number): Promise<Changes> {
  const { code, stdout, stderr } = await runCli(['extract', bundle(index), 'changes.json', '--identity', identity]);
  expect(code, stderr).toBe(0);
  return JSON.parse(stdout);
}

async function diff(before: number, after: number, ...more: string[]): Promise<CliResult> {
  return await runCli(['diff', bundle(before), bundle(after), '--identity', identity, ...more]);
}

const kindOf = (document: DiffDocument | undefined, kind: FactKind): KindDocument => {
  const found = document?.kinds[kind];
  if (found === undefined) throw new Error(`there is nothing about ${kind}`);
  return found;
};
const keys = (items: readonly { key: string }[]): string[] => items.map(({ key }) => key);

describe('a baseline of a deployment', () => {
  test('is compared with nothing where it is the first, and says so', async () => {
    const { diff: nothing, why, workload } = await changesIn(0);
    expect(nothing).toBeUndefined();
    expect(why).toContain('no good snapshot');
    expect(workload.slice(0, 3)).toEqual(['prod', 'shop', 'web']);
  });

  test('shows no difference while nothing happens', async () => {
    expect(quiet.code, quiet.stderr).toBe(0);
    const changes = await changesIn(1);
    for (const kind of FACT_KINDS) {
      const { comparable, counts } = kindOf(changes.diff, kind);
      expect(comparable, kind).toBe('yes');
      expect(counts, kind).toEqual({ new: 0, gone: 0, changed: 0, perhapsNew: 0, perhapsGone: 0 });
    }
    expect((await diff(0, 1)).code).toBe(0);
  });

  test('outlives the agent, and shows exactly what a break-in did', async () => {
    const { diff: found } = await changesIn(2);
    const nothing = { gone: [], changed: [], perhapsNew: [], perhapsGone: [] };
    const program = `${DROPPED} sha256:${dropped}`;
    expect(found?.before.captureId).toBe(path.basename(bundle(1)));
    expect(keys(kindOf(found, 'processes').new)).toEqual([program]);
    expect(kindOf(found, 'processes')).toMatchObject({
      ...nothing,
      new: [
        {
          fields: {
            executable: DROPPED,
            sha256: dropped,
            count: 1,
            users: [0],
            commands: [`${DROPPED} -l -p ${PORT}`],
          },
        },
      ],
    });
    expect(kindOf(found, 'ports').new.map(({ fields }) => fields)).toEqual([
      { protocol: 'tcp', address: '::', port: PORT, executables: [DROPPED] },
    ]);
    expect(keys(kindOf(found, 'files').new)).toEqual([DROPPED, '/app/config.ini', '/etc/passwd', '/tmp/.x']);
    expect(kindOf(found, 'files').new.map(({ fields }) => fields.change)).toEqual([
      'added',
      'modified',
      'modified',
      'added',
    ]);
    expect(kindOf(found, 'users')).toMatchObject({
      ...nothing,
      new: [{ key: 'user toor', fields: { uids: [0], shells: ['/bin/sh'], passwords: ['empty'] } }],
    });
    for (const kind of ['ports', 'files', 'peers', 'libraries', 'modules'] as const)
      expect(kindOf(found, kind)).toMatchObject(nothing);
    for (const kind of ['peers', 'libraries', 'modules'] as const) expect(kindOf(found, kind).new).toEqual([]);
    expect(found?.remarks.list.map(({ severity, reason, key }) => [severity, reason, key])).toEqual([
      ['high', 'executable-not-in-image', program],
      ['high', 'new-port', `tcp [::]:${PORT}`],
      ['high', 'new-root-account', 'user toor'],
      ['medium', 'new-program', DROPPED],
    ]);
  });

  test('is found out alike by `exhibit diff` of the two bundles', async () => {
    const { code, stdout, stderr } = await diff(1, 2, '--json', '--verify');
    expect(code, stderr).toBe(4);
    const { verified, version, ...document } = JSON.parse(stdout);
    expect(version).toBe(1);
    expect(verified.before.verified).toMatch(/^INTACT, sealed by /);
    expect(document).toEqual((await changesIn(2)).diff);
  });

  test('is told to people, what is conspicuous first, and that nothing was verified', async () => {
    const { stdout } = await diff(1, 2);
    expect(stdout).toMatch(/^before +not verified: .*prod\/shop-/);
    expect(stdout.indexOf('new-root-account')).toBeLessThan(stdout.indexOf('processes: 1 new'));
    expect(stdout).toContain(`+ tcp [::]:${PORT}: executables "${DROPPED}"`);
  });

  test('is that of the next pod of the deployment too', async () => {
    const { diff: found, workload } = await changesIn(3);
    expect(workload).toEqual((await changesIn(0)).workload);
    expect(found?.before).toMatchObject({ captureId: path.basename(bundle(2)), target: `prod/shop-${HASH}-x2x4z/web` });
    expect(keys(kindOf(found, 'processes').gone)).toEqual([`${DROPPED} sha256:${dropped}`]);
    expect(keys(kindOf(found, 'users').gone)).toEqual(['user toor']);
  });

  test('leaves bundles that are intact', async () => {
    for (const one of bundles) {
      const { code, stdout } = await runCli(['verify', one, '--identity', identity]);
      expect(code, stdout).toBe(0);
    }
  });

  test('is in the answer of `exhibit show`, and in the log without names', () => {
    expect(shown.stdout).toMatch(/changes +processes: 1 gone; ports: 1 gone; files: 4 gone; users: 1 gone \(since /);
    expect(logged).toContain('"processes":{"gone":1}');
    expect(logged).not.toContain('toor');
  });
});
