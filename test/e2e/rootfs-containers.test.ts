import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { rootfsCollector } from '../../agent/collect/rootfs.ts';
import { openCri } from '../../agent/runtime/cri.ts';
import { type Finding, findingSchema } from '../../evidence/file-finding.ts';
import { type InventoryLine, inventoryLineSchema } from '../../evidence/inventory.ts';
import { type LabNode, startNode } from '../lab/node.ts';
import { labObstacle, requireLab } from '../lab/requires.ts';
import { type BundleContext, bundleContext } from '../unit/collect/bundle-context.ts';

/** Findings and owners in containers of a real containerd: one with the node's ids, one with a user namespace. */

const SHIFT = 131_072;
const INTRUDER = [
  'mkdir -p /tmp/.x /root/.ssh',
  'cp /bin/busybox /tmp/.x/rootsh && chmod 4755 /tmp/.x/rootsh',
  'printf "#!/bin/sh\\nid\\n" > /app/new.sh && chmod 755 /app/new.sh',
  'echo key > /root/.ssh/authorized_keys',
  'echo "toor:x:0:0::/:/bin/sh" >> /etc/passwd',
  'rm /app/readme.txt && rm -r /app/static',
  'echo "#" > /app/old.html && touch -d @1580608922 /app/old.html',
  'sed -i s/8080/9090/ /app/config.ini',
  'ln -s /dev/null /root/.ash_history',
].join(' && ');
/** Touches what the image has, without an edit. */
const INNOCENT =
  'echo hello > /tmp/notes; chown 1000:1000 /tmp/notes; mkdir -p /var/cache/app; chmod 644 /etc/group; chown 0:0 /etc/group';

let node: LabNode;
let folder = '';
const captured = new Map<string, BundleContext>();
const NAMES = ['plain', 'shifted'] as const;

beforeAll(async () => {
  if (labObstacle() !== undefined) return;
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-containers-'));
  node = await startNode();
  const host = { procRoot: node.procRoot, hostRoot: node.hostRoot };
  const { signal } = new AbortController();
  await using runtime = openCri({ socket: node.socket, namespace: 'k8s.io', host });
  for (const name of NAMES) {
    const userNamespace = name === 'shifted' ? { userNamespace: { hostId: SHIFT, length: 65_536 } } : {};
    const pod = await node.runPod({ namespace: 'prod', name, ...userNamespace, containers: [{ name: 'web' }] });
    const { code, stderr } = await pod.exec('web', ['sh', '-c', `${INNOCENT} && ${INTRUDER}`]);
    if (code !== 0) throw new Error(stderr);
    const target = await runtime.resolve({ kind: 'pod', namespace: 'prod', pod: name }, signal);
    const bundle = bundleContext(path.join(folder, name), target, { hostRoot: node.hostRoot });
    await rootfsCollector.collect({ ...bundle.context, host, now: () => Date.now() });
    captured.set(name, bundle);
  }
}, 120_000);

afterAll(async () => {
  await node?.[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
}, 60_000);

beforeEach((context) => requireLab(context));

function bundleOf(name: string): BundleContext {
  const bundle = captured.get(name);
  if (bundle === undefined) throw new Error(`${name} was not captured`);
  return bundle;
}
const lines = (name: string, object: string): unknown[] =>
  bundleOf(name)
    .content(object)
    .toString()
    .trimEnd()
    .split('\n')
    .map((line): unknown => JSON.parse(line));
const findings = (name: string): Finding[] =>
  lines(name, 'rootfs.findings.jsonl.zst').map((line) => findingSchema.parse(line));
const inventory = (name: string): Map<string, InventoryLine> =>
  new Map(
    lines(name, 'rootfs.inventory.jsonl.zst').map((line) => {
      const parsed = inventoryLineSchema.parse(line);
      return [parsed.overlayPath ?? parsed.path, parsed];
    }),
  );

describe.for(NAMES)('a container of containerd (%s ids)', (name) => {
  test('is captured without a gap', () => {
    expect(bundleOf(name).gaps).toEqual([]);
  });

  test('has exactly the findings of what was done in it', () => {
    const found = findings(name).map(({ kind, path: where }) => `${kind} ${where}`);
    expect(found.sort()).toEqual([
      // A copy of the image's own busybox: its content is in the image.
      'executable-in-writable-place tmp/.x/rootsh',
      'executable-not-in-image app/new.sh',
      'hidden-name tmp/.x',
      'image-file-deleted app/readme.txt',
      'image-file-deleted app/static/index.html',
      'image-file-deleted app/static/logo.svg',
      'log-silenced root/.ash_history',
      'persistence root/.ssh/authorized_keys',
      'same-size-edit app/config.ini',
      'set-id tmp/.x/rootsh',
      'system-file-changed etc/passwd',
      'timestomped app/old.html',
    ]);
  });

  test('says setuid root with the container’s own root', () => {
    expect(findings(name).find(({ kind }) => kind === 'set-id')).toMatchObject({ severity: 'high', uid: 0 });
  });

  test('has owners of its own in the layer, as GNU tar lists them', () => {
    const listed = execFileSync('tar', ['-tv', '--numeric-owner'], {
      input: bundleOf(name).content('rootfs.tar.zst'),
      encoding: 'utf8',
    });
    const owners = new Map(listed.split('\n').map((line) => [line.split(/\s+/)[5], line.split(/\s+/)[1]]));
    expect([owners.get('tmp/notes'), owners.get('app/new.sh'), owners.get('etc/passwd')]).toEqual([
      '1000/1000',
      '0/0',
      '0/0',
    ]);
  });

  test('does not take a copied-up file for another owner’s', () => {
    const group = inventory(name).get('etc/group');
    expect(group).toMatchObject({ change: 'unchanged', uid: 0, lower: { uid: 0 } });
    expect(group?.lower?.birthNs).toMatch(/^\d+$/);
    expect(inventory(name).get('bin')?.change ?? 'absent').not.toBe('metadata');
  });
});

describe('a container with a user namespace', () => {
  test('has the node’s numbers beside its own', () => {
    const notes = inventory('shifted').get('tmp/notes');
    expect(notes).toMatchObject({ uid: 1000, gid: 1000, hostUid: SHIFT + 1000, hostGid: SHIFT + 1000 });
    expect(inventory('plain').get('tmp/notes')?.hostUid).toBeUndefined();
    expect(bundleOf('shifted').facts.get('userNamespace')).toEqual({
      uids: [{ inside: 0, outside: SHIFT, length: 65_536 }],
      gids: [{ inside: 0, outside: SHIFT, length: 65_536 }],
    });
    expect(bundleOf('plain').facts.has('userNamespace')).toBe(false);
  });

  test('has no owners that it does not know but its whiteouts', () => {
    expect(bundleOf('shifted').notes.join('\n')).not.toContain('nobody in the container');
  });
});
