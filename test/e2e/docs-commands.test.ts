import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startAgent } from '../lab/agent.ts';
import { labRoot } from '../lab/cache.mjs';
import { startNode } from '../lab/node.ts';
import { labObstacle, requireLab } from '../lab/requires.ts';
import { compromisedPod } from '../lab/victim.ts';
import { allPages, ROOT } from '../unit/docs/pages.ts';
import { hasProgram, shell } from './readers.ts';

/**
 * The guides' blocks that are marked `run: bundle`, on the bundle of a container that was broken into. What is not run, and why, stands in
 * the pages themselves; test/unit/docs/blocks.test.ts holds them to it.
 */

const all = (await allPages()).flatMap((page) => page.blocks);
const blocks = all.filter(({ comment }) => comment === 'run: bundle');
/** By hand, without exhibit, in the folder of the bundle; test/unit/evidence/format-doc.test.ts runs them on one that was made up. */
const byHand = all.filter(({ page, language }) => page === 'docs/format.md' && language === 'sh');
/** Programs that a machine may lack. */
const JUDGES = ['jq', 'zstd', 'gdb', 'mactime', 'yara'];
/** Programs that Debian 12 has not, and the lab's node has. */
const NODE_JUDGES = ['checkpointctl', 'crit'];

/** What a reader is to see by a block, on its screen or in the files that it leaves, by the heading that it stands below. */
const SHOWN: Readonly<Record<string, readonly RegExp[]>> = {
  'Sixty seconds': [/^INTACT$/m, /executable-in-writable-place/, /tmp\/\.x/],
  'Is it whole, is it theirs, what is missing': [
    /^INTACT$/m,
    /which you trust/,
    /^rootfs\tcaptured\t0$/m,
    /^[0-9a-f]{64} /m,
  ],
  'What to look at first': [/timestomped/],
  'processes, network, node: tar and jq': [
    /kernelThreadLookalike/,
    /DB_PASSWORD=hunter2/,
    /^processes\/recovered\/\d+\/exe$/m,
  ],
  'memory: gdb, strings, YARA': [/^\d+\/core$/m, /LWP \d+/, /^secret\t\d+/m, /^secret core$/m],
  'checkpoint: checkpointctl, crit': [
    /Dumping finished successfully/,
    /^tasks: worked/m,
    /Process tree/,
    /ESTABLISHED|Open files/,
    /^ +1 +1 +1 +\S+$/m,
  ],
  'files: tar, mactime, an image': [/tmp\/\.x\/notes\.txt|org\.opencontainers\.image|mediaType/],
  'logs, spec': [/shop listening on :8080/, /CAP_/],
  'All of it in one order: Timesketch, mactime': [/^ *[1-9]\d+ timeline\.jsonl$/m],
};

/** Runs the node's program of its own name in the caller's folder, in mounts that go with it. */
const ON_THE_NODE = `#!/bin/sh
exec unshare --mount --propagation private sh -ec 'root=$1 name=$2; shift 2
mount --bind "$PWD" "$root/mnt"; mount -t tmpfs none "$root/tmp"
exec chroot "$root" sh -c "cd /mnt; exec \\"\\$@\\"" sh "$name" "$@"' sh '${labRoot()}' "$(basename "$0")" "$@"
`;

let folder: string;
let environment: NodeJS.ProcessEnv;

beforeAll(async () => {
  if (labObstacle() !== undefined) return;
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-docs-e2e-'));
  mkdirSync(path.join(folder, 'bin'));
  symlinkSync(path.join(ROOT, 'cli/main.ts'), path.join(folder, 'bin/exhibit'));
  for (const name of NODE_JUDGES) writeFileSync(path.join(folder, 'bin', name), ON_THE_NODE, { mode: 0o755 });
  const key = path.join(folder, 'seal.pem');
  shell(
    'openssl genpkey -algorithm ed25519 -out "$1" && openssl pkey -in "$1" -pubout -out "$2"',
    key,
    `${folder}/seal.pub.pem`,
  );
  await using node = await startNode();
  const victim = await compromisedPod(node);
  const sink = { url: `file://${folder}/evidence` };
  await using agent = await startAgent(node, { config: { sink, signing: { keyFile: key } } });
  const artifacts = 'processes,network,node,memory,checkpoint,volumes,rootfs,logs,spec,image';
  const captured = await agent.exhibit('capture', 'prod/web-0', '--case', 'IR-2031', '--artifacts', artifacts);
  if (captured.code !== 0) throw new Error(captured.stderr);
  const base = path.join(folder, 'evidence', 'lab', 'lab-node');
  environment = {
    PATH: `${folder}/bin:${path.dirname(process.execPath)}:${process.env.PATH}`,
    HOME: folder,
    BUNDLE: path.join(base, readdirSync(base)[0] ?? 'none'),
    TRUST: path.join(folder, 'seal.pub.pem'),
    PID: String(victim.secretPid),
  };
}, 120_000);

afterAll(() => {
  if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
});

test('the guides have commands for a bundle', () => {
  expect(blocks.length).toBeGreaterThan(8);
});

describe.each([...new Set(blocks.map(({ page }) => page))])('%s', (page) => {
  for (const { at, heading, text } of blocks.filter((block) => block.page === page)) {
    test(`has commands that work on a bundle: ${heading} (${at})`, (context) => {
      requireLab(context);
      const missing = JUDGES.find((name) => text.includes(name) && !hasProgram(name));
      if (missing !== undefined) context.skip(`needs ${missing}`);
      const work = path.join(folder, page.replaceAll('/', '-'));
      mkdirSync(work, { recursive: true });
      // As typed: a reader that leaves early (`| head`) is no failure.
      const ran = spawnSync('bash', ['-eu', '-c', text], { cwd: work, env: environment, maxBuffer: 1 << 28 });
      expect(ran.status, `${ran.stdout}${ran.stderr}`).toBe(0);
      expect(ran.stderr.toString()).not.toMatch(/error|No such|cannot|not found/i);
      for (const shown of SHOWN[heading] ?? [/no words for this heading/]) expect(ran.stdout.toString()).toMatch(shown);
    });
  }
});

describe('docs/format.md', () => {
  test('has commands', () => {
    expect(byHand.length).toBeGreaterThan(10);
  });

  for (const { at, heading, text } of byHand) {
    test(`has commands that work in its folder: ${heading} (${at})`, (context) => {
      requireLab(context);
      const env = { ...environment, TMPDIR: folder };
      const ran = spawnSync('bash', ['-eu', '-o', 'pipefail', '-c', text], { cwd: environment.BUNDLE, env });
      expect(ran.status, `${ran.stdout}${ran.stderr}`).toBe(0);
      expect(ran.stderr.toString()).not.toMatch(/error|No such|cannot|not found/i);
    });
  }
});
