import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Manifest, RequestRecord } from '../../evidence/manifest.ts';
import { runCli, startAgent } from '../lab/agent.ts';
import { type LabNode, startNode } from '../lab/node.ts';
import { labObstacle, requireLab } from '../lab/requires.ts';
import { compromisedPod, type Victim } from '../lab/victim.ts';
import { hasProgram, json, program, shell } from './readers.ts';

/** One capture of a compromised container on a real containerd, judged by programs that know nothing of us. */

let node: LabNode;
let victim: Victim;
let folder: string;
/** Everything of the bundle, decompressed beside it. */
let bundle: string;
let manifest: Manifest;
let captured: { code: number; stdout: string; stderr: string };

beforeAll(async () => {
  if (labObstacle() !== undefined) return;
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-e2e-'));
  node = await startNode();
  victim = await compromisedPod(node);
  await using agent = await startAgent(node, { config: { sink: { url: `file://${folder}/evidence` } } });
  captured = await agent.exhibit('capture', 'prod/web-0', '--case', 'CASE-7', '--reason', 'test');
  const base = path.join(folder, 'evidence', 'lab', 'lab-node');
  bundle = path.join(base, readdirSync(base)[0] ?? 'none');
  manifest = json<Manifest>(bundle, 'manifest.json');
}, 120_000);

afterAll(async () => {
  if (labObstacle() !== undefined) return;
  await node[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
}, 60_000);

beforeEach((context) => requireLab(context));

const archives = () =>
  manifest.objects.filter((object) => object.name.endsWith('.tar.zst')).map((object) => object.name);

function unpacked(archive: string): string {
  const target = path.join(folder, 'unpacked', archive);
  shell(
    'mkdir -p "$2" && zstd -dc "$1" | tar -x -C "$2" --no-same-owner 2>/dev/null || true',
    path.join(bundle, archive),
    target,
  );
  return target;
}

function lines(file: string): Record<string, unknown>[] {
  return readFileSync(file, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

describe('one command captures a running container', () => {
  test('and says where the evidence is', () => {
    expect(captured.stderr).not.toMatch(/\bat .*\.ts:\d+/);
    expect(captured.code, captured.stderr).toBe(0);
    expect(captured.stdout).toContain(manifest.captureId);
  });

  test('and takes every artifact', () => {
    const states = Object.fromEntries(manifest.artifacts.map((artifact) => [artifact.name, artifact.status]));
    const reasons = JSON.stringify(
      manifest.artifacts.map(({ name, reason, gaps }) => ({ name, reason, gaps: gaps.slice(0, 3) })),
    );
    expect(
      Object.values(states).every((state) => state === 'captured' || state === 'partial'),
      reasons,
    ).toBe(true);
    expect(Object.keys(states)).toEqual([
      'processes',
      'network',
      'node',
      'memory',
      'checkpoint',
      'volumes',
      'rootfs',
      'logs',
      'spec',
    ]);
  });

  test('and writes who asked, why and the plan before anything else', () => {
    const request = json<RequestRecord>(bundle, 'request.json');
    expect(request).toMatchObject({
      caseId: 'CASE-7',
      reason: 'test',
      selector: 'prod/web-0',
      cluster: 'lab',
      node: 'lab-node',
    });
    expect(request.target.pod).toMatchObject({ namespace: 'prod', name: 'web-0' });
    const first = statSync(path.join(bundle, 'request.json')).mtimeMs;
    const others = readdirSync(bundle).map((name) => statSync(path.join(bundle, name)).mtimeMs);
    expect(Math.min(...others)).toBe(first);
    expect(statSync(path.join(bundle, 'manifest.dsse.json')).mtimeMs).toBe(Math.max(...others));
  });

  test('and leaves the container running', async () => {
    const { stdout } = await victim.pod.exec(victim.container, ['echo', 'alive']);
    expect(stdout.toString()).toBe('alive\n');
  });

  test('and stops it for the memory itself, and the runtime stops it for the checkpoint', () => {
    expect(manifest.freeze).toMatchObject({ consistency: 'frozen', method: 'cgroup-v2', thawedBy: 'agent' });
    expect(manifest.freeze.pauseMs).toBeGreaterThan(0);
    const paused = manifest.artifacts
      .filter((artifact) => artifact.footprint.pauseMs > 0)
      .map((artifact) => artifact.name);
    expect(paused).toEqual(['memory', 'checkpoint']);
  });
});

describe('independent programs agree', () => {
  test('zstd finds every compressed object whole', () => {
    const compressed = manifest.objects.filter((object) => object.name.endsWith('.zst'));
    expect(compressed.length).toBeGreaterThanOrEqual(8);
    for (const { name } of compressed)
      expect(program('zstd', ['-t', '-q', name], { cwd: bundle }), name).toMatchObject({ code: 0 });
  });

  test('GNU tar and bsdtar list the members that the manifest lists', () => {
    for (const name of archives()) {
      const gnu = shell('zstd -dc "$1" | tar -t', path.join(bundle, name)).trimEnd().split('\n');
      const bsd = shell('zstd -dc "$1" | bsdtar -tf -', path.join(bundle, name)).trimEnd().split('\n');
      expect(bsd.length, name).toBe(gnu.length);
      const listed = manifest.objects.find((object) => object.name === name)?.members;
      if (listed !== undefined)
        expect(
          gnu.map((member) => member.replace(/\/$/, '')),
          name,
        ).toEqual(listed.map((member) => member.path.replace(/\/$/, '')));
    }
  });

  test('sha256sum agrees with the manifest, stored and content', () => {
    for (const { name, stored, content } of manifest.objects) {
      expect(shell('sha256sum < "$1"', path.join(bundle, name)).slice(0, 64), name).toBe(stored.sha256);
      expect(statSync(path.join(bundle, name)).size).toBe(stored.sizeBytes);
      if (content !== undefined)
        expect(shell('zstd -dc "$1" | sha256sum', path.join(bundle, name)).slice(0, 64), name).toBe(content.sha256);
    }
  });

  test('gdb opens the core and finds the secret', (context) => {
    if (!hasProgram('gdb')) context.skip('needs gdb');
    const core = path.join(unpacked('memory.tar.zst'), String(victim.secretPid), 'core');
    const offset = readFileSync(core).indexOf(victim.secret);
    expect(offset).toBeGreaterThan(0);
    const loads = shell('readelf -lW "$1" | awk \'$1 == "LOAD" { print $2, $3, $5, $6 }\'', core)
      .trim()
      .split('\n')
      .map((line) => line.split(' ').map(BigInt));
    const hit = loads.find(([at = 0n, , size = 0n]) => BigInt(offset) >= at && BigInt(offset) < at + size) ?? [];
    const address = (hit[1] ?? 0n) + BigInt(offset) - (hit[0] ?? 0n);
    const { stdout } = program('gdb', ['-nx', '-batch', '-ex', `core-file ${core}`, '-ex', `x/s ${address}`]);
    expect(stdout).toContain(victim.secret);
  });

  test('checkpointctl shows and inspects the checkpoint', async () => {
    const inside = path.join(node.hostRoot, 'tmp', 'checkpoint.tar');
    shell('zstd -dc "$1" > "$2"', path.join(bundle, 'checkpoint.tar.zst'), inside);
    const script = 'checkpointctl show /tmp/checkpoint.tar && checkpointctl inspect --all /tmp/checkpoint.tar';
    const { code, stdout, stderr } = await node.exec(['sh', '-c', script]);
    expect(code, stderr).toBe(0);
    expect(stdout.toString()).toContain('web');
    expect(stdout.toString()).toMatch(/Process tree[\s\S]*\[REG 0\]/);
  });

  test('the layer applied over the image gives the root of the container', async () => {
    const pid = await victim.pod.pid(victim.container);
    const applied = path.join(folder, 'applied');
    const { lowers } = json<{ lowers: string[] }>(unpacked('spec.tar.zst'), 'rootfs.json');
    const merge = 'mkdir -p "$2" && cp -a --remove-destination "$1/." "$2" && find "$2" -type c -delete';
    for (const lower of lowers.toReversed()) shell(merge, path.join(node.hostRoot, lower), applied);
    shell(
      'zstd -dc "$1" | tar -x -C "$2" --xattrs --xattrs-include="*" --same-owner',
      path.join(bundle, 'rootfs.tar.zst'),
      applied,
    );
    shell(
      'find "$1" -name ".wh.*" | while read -r w; do rm -rf "$(dirname "$w")/$(basename "$w" | cut -c5-)" "$w"; done',
      applied,
    );
    const listing =
      'cd "$1" && find . -xdev \\( -path ./proc -o -path ./sys -o -path ./dev -o -path ./etc/hosts -o -path ./etc/hostname -o -path ./etc/resolv.conf -o -path ./run \\) -prune -o -printf "%p %y %m %U %G %s %l\\n" | grep -v "^\\. \\|^\\./[^ ]* d .*" | sort';
    const root = path.join(node.procRoot, String(pid), 'root');
    expect(shell(listing, applied)).toBe(shell(listing, root));
    const sums =
      'cd "$1" && find . -xdev \\( -path ./proc -o -path ./sys -o -path ./dev -o -path ./etc/hosts -o -path ./etc/hostname -o -path ./etc/resolv.conf -o -path ./run \\) -prune -o -type f -print0 | sort -z | xargs -0 sha256sum';
    expect(shell(sums, applied)).toBe(shell(sums, root));
  });
});

describe('what the intruder did is in the bundle', () => {
  test('the program that was deleted while it ran, whole', () => {
    const found = manifest.objects.find((object) => object.name === 'processes.tar.zst')?.members ?? [];
    expect(found.filter((member) => member.sha256 === victim.dropped.sha256).map((member) => member.path)).toHaveLength(
      1,
    );
    const [line] = lines(path.join(unpacked('processes.tar.zst'), 'processes.jsonl')).filter(
      (one) => one.pid === victim.dropped.nsPid,
    );
    expect(JSON.stringify(line)).toContain(victim.dropped.path);
    expect(JSON.stringify(line)).toContain(victim.dropped.sha256);
  });

  test('changed, deleted and added files', () => {
    shell(
      'zstd -dc "$1" > "$2"',
      path.join(bundle, 'rootfs.inventory.jsonl.zst'),
      path.join(folder, 'inventory.jsonl'),
    );
    const inventory = JSON.stringify(lines(path.join(folder, 'inventory.jsonl')));
    const { changed, deleted, created } = victim.files;
    for (const file of [changed, deleted, ...created]) expect(inventory, file).toContain(path.basename(file));
    expect(inventory).toContain('"deleted"');
    expect(inventory).toContain('"modified"');
  });

  test('what to look at first, and the original of what was deleted', async () => {
    const { code, stdout, stderr } = await runCli(['findings', bundle]);
    expect(code, stderr).toBe(0);
    const { deleted, setuid, backdated } = victim.files;
    for (const found of [`set-id +${setuid} `, `timestomped +${backdated} `, `image-file-deleted +${deleted} `])
      expect(stdout).toMatch(new RegExp(found));
    const original = await runCli(['extract', bundle, 'rootfs-originals.tar', deleted.slice(1)]);
    expect(original.stdout).toBe('Deleted by tests.\n');
  });

  test('what the container wrote to its log', () => {
    const text = shell('zstd -dc "$1" | tar -xO', path.join(bundle, 'logs.tar.zst'));
    for (const line of victim.logLines) expect(text).toContain(line);
  });
});

describe('exhibit verify', () => {
  const verify = (where: string, ...more: string[]) => runCli(['verify', where, ...more]);

  test('finds the bundle intact', async () => {
    expect(await verify(bundle)).toMatchObject({ code: 0 });
  });

  test('names the object in which one byte was flipped, wherever it is', async () => {
    const copy = path.join(folder, 'flipped');
    for (const name of readdirSync(bundle)) {
      const size = statSync(path.join(bundle, name)).size;
      for (const at of [0, Math.floor(size / 2), size - 1]) {
        rmSync(copy, { recursive: true, force: true });
        cpSync(bundle, copy, { recursive: true });
        const bytes = readFileSync(path.join(copy, name));
        bytes[at] = (bytes[at] ?? 0) ^ 1;
        writeFileSync(path.join(copy, name), bytes);
        const { code, stdout, stderr } = await verify(copy);
        expect(code, `${name} at ${at}`).toBe(1);
        expect(stdout + stderr, `${name} at ${at}`).toContain(name);
      }
    }
  });

  test('names a missing and an unlisted object, and an unsealed capture', async () => {
    const copy = path.join(folder, 'changed');
    cpSync(bundle, copy, { recursive: true });
    rmSync(path.join(copy, 'logs.tar.zst'));
    writeFileSync(path.join(copy, 'planted.tar.zst'), 'x');
    const changed = await verify(copy);
    expect(changed.code).toBe(1);
    expect(changed.stdout).toContain('logs.tar.zst');
    expect(changed.stdout).toContain('planted.tar.zst');
    rmSync(path.join(copy, 'manifest.json'));
    rmSync(path.join(copy, 'manifest.dsse.json'));
    const unsealed = await verify(copy);
    expect(unsealed.code).toBe(1);
    expect(unsealed.stdout).toMatch(/never sealed/);
  });

  test('lets a member be extracted as it was', async () => {
    const { code, stdout } = await runCli(['extract', bundle, 'spec', 'oci-spec.json']);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toHaveProperty('linux');
  });
});
