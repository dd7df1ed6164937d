import { createHash, randomUUID } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type Finding, findingSchema } from '../../evidence/file-finding.ts';
import { type InventoryLine, inventoryLineSchema } from '../../evidence/inventory.ts';
import type { Manifest } from '../../evidence/manifest.ts';
import { type VolumeRecord, volumeSchema } from '../../evidence/volumes.ts';
import { type CliResult, runCli, startAgent } from '../lab/agent.ts';
import { type LabNode, startNode } from '../lab/node.ts';
import type { LabPod } from '../lab/pod.ts';
import { labObstacle, requireLab } from '../lab/requires.ts';
import { json, shell } from './readers.ts';

/**
 * The volumes of a pod as kubelet lays them out on the node, on a real containerd: what the archive has is compared entry by
 * entry with what find(1) and sha256sum(1) say inside the container.
 */

const UID = randomUUID();
const KUBELET = `/var/lib/kubelet/pods/${UID}`;
const volumeOf = (plugin: string, name: string) => `${KUBELET}/volumes/kubernetes.io~${plugin}/${name}`;

/** In the container, by the class that its mount should be told to be. */
const PLACES = {
  'empty-dir': { at: '/scratch', from: volumeOf('empty-dir', 'scratch') },
  'empty-dir-memory': { at: '/cache', from: volumeOf('empty-dir', 'cache') },
  secret: { at: '/etc/secret', from: volumeOf('secret', 'db') },
  'config-map': { at: '/etc/config', from: volumeOf('configmap', 'app') },
  'service-account-token': {
    at: '/var/run/secrets/kubernetes.io/serviceaccount',
    from: volumeOf('projected', 'kube-api-access-x7k2p'),
  },
  'persistent-volume': { at: '/data', from: `${volumeOf('csi', 'pvc-1')}/mount` },
  'host-path': { at: '/host/log', from: '/var/log/app' },
} as const;
/** Of the node, and written to by the container. */
const JOBS = { at: '/host/jobs', from: '/etc/cron.d' };
const IN_MEMORY = ['empty-dir-memory', 'secret', 'service-account-token'] as const;
const TOKEN = 'eyJhbGciOiJSUzI1NiJ9.not-to-be-taken';

let node: LabNode;
let pod: LabPod;
let folder: string;
let bundle: string;
let manifest: Manifest;
let captured: CliResult;
let truth: string[];
let after: string;
let mountsBefore: string;

const must = async (argv: readonly string[]): Promise<string> => {
  const { code, stdout, stderr } = await pod.exec('app', argv);
  if (code !== 0) throw new Error(`${argv.join(' ')}: exit ${code}: ${stderr}`);
  return stdout.toString();
};

/** As find(1) sees them in the container: path, mode, owner, size, seconds of the three times. */
const LOOK = `for at in ${[...Object.values(PLACES).map(({ at }) => at), '/dev/shm'].join(' ')}; do
  find $at -xdev -exec stat -c '%n|%a|%u|%g|%s|%X|%Y|%Z|%i' {} +; done`;

async function makeVolumes(): Promise<void> {
  const folders = Object.values(PLACES).map(({ from }) => from);
  const memory = IN_MEMORY.map((one) => PLACES[one].from);
  const script = `mkdir -p ${folders.join(' ')} ${KUBELET}/containers/app
    for one in ${memory.join(' ')}; do mount -t tmpfs tmpfs $one; done
    echo "127.0.0.1 localhost" > ${KUBELET}/etc-hosts; : > ${KUBELET}/containers/app/1a2b3c4d
    echo ${TOKEN} > ${PLACES['service-account-token'].from}/token
    echo hunter2 > ${PLACES.secret.from}/password; echo verbose=1 > ${PLACES['config-map'].from}/app.conf
    echo "rotated" > ${PLACES['host-path'].from}/old.log
    chmod 777 ${PLACES['empty-dir'].from}; mkdir -p ${JOBS.from}; echo "# the node's own" > ${JOBS.from}/sysstat
    mkdir ${PLACES.secret.from}/..2026_01_01; ln -s ..2026_01_01 ${PLACES.secret.from}/..data`;
  const { code, stderr } = await node.exec(['sh', '-c', script]);
  if (code !== 0) throw new Error(stderr);
}

beforeAll(async () => {
  if (labObstacle() !== undefined) return;
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-volumes-e2e-'));
  node = await startNode();
  await makeVolumes();
  const binds = Object.values(PLACES).map(({ at, from }) => ({ containerPath: at, hostPath: from }));
  pod = await node.runPod({
    namespace: 'prod',
    name: 'shop-0',
    uid: UID,
    containers: [
      {
        name: 'app',
        mounts: [
          ...binds,
          { containerPath: '/etc/hosts', hostPath: `${KUBELET}/etc-hosts` },
          { containerPath: '/dev/termination-log', hostPath: `${KUBELET}/containers/app/1a2b3c4d` },
          { containerPath: '/node', hostPath: '/', readonly: true },
          { containerPath: JOBS.at, hostPath: JOBS.from },
        ],
      },
    ],
  });
  await must([
    'sh',
    '-c',
    `cd /scratch && mkdir -p deep/er && echo one > deep/er/one && ln deep/er/one deep/two && ln -s /etc/passwd link && mkfifo pipe
     cd /cache && cp /bin/busybox tool && chmod 4755 tool && echo "$(printf 'a\\nb')" > "$(printf 'new\\nline')"
     cd /dev/shm && echo implant > .x && dd if=/dev/zero of=sparse bs=1 count=1 seek=3000000000 2>/dev/null
     { cat /bin/busybox; echo padding; } > kworker && chmod 755 kworker; cp -p /bin/busybox /scratch/rootsh && chmod 4755 /scratch/rootsh
     echo '* * * * * root /run/x' > ${JOBS.at}/job
     mkdir -p /data/repo/.git/hooks && printf '#!/bin/sh\\n' > /data/repo/.git/hooks/pre-commit && chmod 755 /data/repo/.git/hooks/pre-commit
     cd /data && echo row > table && chown 70:70 table && touch -d @1580608922 table; echo new > /host/log/new.log
     exec 7> /dev/shm/gone; echo "deleted but open" >&7; rm /dev/shm/gone; tail -f /dev/null > /dev/null 2>&1 < /dev/null &
     exec 7>&-
     cp /bin/busybox /cache/tail; /cache/tail -f /dev/null > /dev/null 2>&1 < /dev/null &
     until [ "$(readlink /proc/$!/exe)" = /cache/tail ]; do kill -0 $!; done; rm /cache/tail`,
  ]);
  truth = (await must(['sh', '-c', LOOK])).split('\n').filter((line) => line !== '');
  mountsBefore = await must(['cat', '/proc/1/mountinfo']);
  await using agent = await startAgent(node, { config: { sink: { url: `file://${folder}/evidence` } } });
  captured = await agent.exhibit('capture', 'prod/shop-0', '--artifacts', 'processes,volumes,spec');
  const base = path.join(folder, 'evidence', 'lab', 'lab-node');
  bundle = path.join(base, readdirSync(base)[0] ?? 'none');
  manifest = json<Manifest>(bundle, 'manifest.json');
  after = await must(['sh', '-c', LOOK]);
});

afterAll(async () => {
  if (labObstacle() !== undefined) return;
  await node[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

beforeEach((context) => requireLab(context));

const linesOf = (object: string): unknown[] =>
  Buffer.from(shell('zstd -dc "$1"', path.join(bundle, object)), 'latin1')
    .toString()
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
const volumes = (): VolumeRecord[] => linesOf('volumes.jsonl.zst').map((line) => volumeSchema.parse(line));
const inventory = (): InventoryLine[] =>
  linesOf('volumes.inventory.jsonl.zst').map((line) => inventoryLineSchema.parse(line));
const findings = (): Finding[] => linesOf('volumes.findings.jsonl.zst').map((line) => findingSchema.parse(line));
const saidOf = (file: string) =>
  findings()
    .filter((one) => one.path === file)
    .map(({ kind, severity, reasons }) => [kind, severity, reasons.join(' ')]);
const at = (place: string): VolumeRecord => {
  const found = volumes().find(({ containerPath }) => containerPath === place);
  if (found === undefined) throw new Error(`no mount at ${place}`);
  return found;
};
const archive = () => path.join(bundle, 'volumes.tar.zst');
const member = (name: string): string => shell('zstd -dc "$1" | tar -xO -f - -- "$2"', archive(), name);

describe('the volumes of a pod', () => {
  test('are taken beside its processes, and the bundle verifies', async () => {
    expect(captured.code, captured.stderr).toBe(0);
    expect(captured.stderr).not.toMatch(/\bat .*\.ts:\d+/);
    expect(await runCli(['verify', bundle])).toMatchObject({ code: 0 });
  });

  test('are told apart by what kubelet made them for', () => {
    for (const [of, { at: place, from }] of Object.entries(PLACES)) {
      expect(at(place), place).toMatchObject({ class: of, hostPath: from, ofContainer: true });
    }
    expect(at('/')).toMatchObject({ class: 'root', policy: { taken: 'listed' } });
    expect(at('/proc')).toMatchObject({ class: 'kernel', policy: { taken: 'listed' } });
    expect(at('/dev')).toMatchObject({ class: 'tmpfs', memoryBacked: true });
    expect(at('/dev/shm')).toMatchObject({ class: 'shm', memoryBacked: true });
    expect(at('/etc/hosts')).toMatchObject({ class: 'pod-file' });
    expect(at('/dev/termination-log')).toMatchObject({ class: 'pod-file' });
    expect(at('/node')).toMatchObject({ class: 'host-path', hostPath: '/', policy: { taken: 'metadata' } });
  });

  test('are in the inventory entry by entry as the container sees them: mode, owner, size, times and inode', () => {
    const seconds = (ns: string) => BigInt(ns) / 1_000_000_000n;
    const places = [...Object.values(PLACES).map(({ at: place }) => place), '/dev/shm'].map(
      (place) => at(place).volume,
    );
    const listed = inventory()
      .filter(({ volume }) => volume !== undefined && places.includes(volume))
      .map((line) => {
        const size = line.apparentBytes ?? line.sparse?.apparentBytes ?? line.sizeBytes;
        const place = `/${line.overlayPath ?? line.path}`;
        const times = [line.atimeNs, line.mtimeNs, line.ctimeNs].map(seconds).join('|');
        return {
          type: line.type,
          text: [place, line.mode.replace(/^0+(?=.)/, ''), line.uid, line.gid, size, times, line.inode].join('|'),
        };
      });
    // Directories' sizes and links' lengths are not content, and have no size in a tar.
    const withoutSize = (text: string) => text.replace(/^((?:[^|]*\|){4})[^|]*/s, '$1-');
    const sized = new Set(listed.filter(({ type }) => type === 'file').map(({ text }) => text));
    const expected = truth.join('\n').split(/\n(?=\/)/);
    expect(listed.map(({ text }) => withoutSize(text)).sort()).toEqual(expected.map(withoutSize).sort());
    for (const text of sized) expect(expected).toContain(text);
  });

  test('have their content in the archive, as GNU tar reads it', async () => {
    const of = (place: string, name: string) => `${at(place).volume}/${name}`;
    expect(member(of('/scratch', 'deep/er/one'))).toBe('one\n');
    expect(member(of('/dev/shm', '.x'))).toBe('implant\n');
    expect(member(of('/data', 'table'))).toBe('row\n');
    expect(member(of('/host/log', 'new.log'))).toBe('new\n');
    expect(member(String(at('/etc/hosts').volume))).toBe('127.0.0.1 localhost\n');
    const tool = createHash('sha256')
      .update(Buffer.from(member(of('/cache', 'tool')), 'latin1'))
      .digest('hex');
    expect(tool).toBe((await must(['sha256sum', '/cache/tool'])).split(' ')[0]);
    const listing = shell('zstd -dc "$1" | tar -tv --numeric-owner -f -', archive());
    expect(listing).toMatch(/^-rw-r--r-- 70\/70 .* 2020-02-0\d .*\/table$/m);
    expect(listing).toMatch(/^prw.* \d+\/pipe$/m);
    expect(listing).toMatch(/^hrw.* \d+\/deep\/two link to \d+\/deep\/er\/one$/m);
  });

  test('that are secrets or tokens are there with their names and times, and nothing of what they say', () => {
    const line = inventory().find((one) => one.path === 'var/run/secrets/kubernetes.io/serviceaccount/token');
    expect(line).toMatchObject({ inArchive: false, notStored: 'class', apparentBytes: String(TOKEN.length + 1) });
    expect(line?.sha256).toBeUndefined();
    expect(shell('zstd -dc "$1" | grep -a -c -F -e "$2" -e hunter2 || true', archive(), TOKEN).trim()).toBe('0');
  });

  test('of the node’s root have their tree, bounded, and no content', () => {
    const { volume, counts } = at('/node');
    expect(counts).toMatchObject({ contentFiles: 0, contentBytes: 0 });
    expect(counts?.entries).toBeGreaterThan(1000);
    const names = inventory().filter((one) => one.volume === volume);
    expect(names.every(({ inArchive }) => inArchive === false)).toBe(true);
    expect(names.map((one) => one.path)).toContain('node/usr/bin/containerd');
    const { gaps } = manifest.artifacts.find(({ name }) => name === 'volumes') ?? {};
    expect(
      gaps
        ?.filter(({ what }) => what === '/node')
        .map(({ why }) => why)
        .join(),
    ).toContain('volumes.nodePaths');
  });

  test('lead to the deleted file that a process holds on one of them, and to its content', () => {
    const held = at('/dev/shm').deletedOpen?.find((one) => one.path === '/dev/shm/gone');
    const run = at('/cache').deletedOpen?.find((one) => one.path === '/cache/tail');
    expect(run?.heldBy).toMatch(/^\d+\/exe$/);
    const recovered = shell('zstd -dc "$1" | tar -xO -f - recovered.jsonl', path.join(bundle, 'processes.tar.zst'))
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as { member: string; heldBy: string[] });
    const found = recovered.find(({ heldBy }) => heldBy.includes(held?.heldBy ?? ''));
    const content = shell(
      'zstd -dc "$1" | tar -xO -f - "$2"',
      path.join(bundle, 'processes.tar.zst'),
      found?.member ?? '',
    );
    expect(content).toBe('deleted but open\n');
    expect(recovered.some(({ heldBy }) => heldBy.includes(run?.heldBy ?? ''))).toBe(true);
  });

  test('have findings: a program in /dev/shm, setuid files, a job for the node’s cron, each with its mount', async () => {
    // Whether it is mounted noexec is the runtime's choice.
    const off = at('/dev/shm').options.includes('noexec') ? ' mounted-noexec' : '';
    expect(saidOf('dev/shm/kworker')).toEqual([
      ['executable-in-writable-place', 'high', `elf execute-permission memory-place world-writable-folder${off}`],
      ['executable-not-in-image', 'medium', `elf execute-permission${off} not-in-image`],
    ]);
    expect(saidOf('dev/shm/.x')).toEqual([['hidden-name', 'medium', 'dot-name']]);
    // A copy of a program of the image with its time is neither new nor backdated.
    expect(saidOf('scratch/rootsh').map(([kind, severity]) => `${kind} ${severity}`)).toEqual([
      'set-id high',
      'executable-in-writable-place medium',
    ]);
    expect(saidOf('host/jobs/job')).toEqual([['persistence', 'high', 'cron on-node']]);
    const job = findings().find(({ path: file }) => file === 'host/jobs/job');
    expect(job).toMatchObject({ volume: at(JOBS.at).volume, nodePath: 'etc/cron.d/job' });
    const shown = await runCli(['findings', bundle]);
    expect(shown.stdout).toContain('/host/jobs/job (node: /etc/cron.d/job)');
    const { facts } = manifest.artifacts.find(({ name }) => name === 'volumes') ?? {};
    expect(facts?.findings).toMatchObject({ persistence: 1 });
    const timeline = await runCli(['timeline', bundle, '--format', 'jsonl']);
    expect(timeline.stdout).toContain('finding persistence, high: /host/jobs/job');
  });

  test('have none for data, the node’s own files, what kubelet writes, and devices of the runtime', () => {
    const volume = (place: string) => at(place).volume;
    const innocent = ['/dev', '/etc/secret', '/etc/config', '/etc/hosts', '/node', '/host/log'].map(volume);
    expect(findings().filter((one) => innocent.includes(one.volume ?? 0))).toEqual([]);
    expect(saidOf('host/jobs/sysstat')).toEqual([]);
    const onClaim = findings().filter((one) => one.volume === volume('/data'));
    expect(onClaim.map(({ kind, path: file, severity }) => [kind, file, severity])).toEqual([
      ['timestomped', 'data/table', 'low'],
    ]);
  });

  test('are as they were: times of access and the mounts of the container', async () => {
    expect(after.split('\n').filter((line) => line !== '')).toEqual(truth);
    expect(await must(['cat', '/proc/1/mountinfo'])).toBe(mountsBefore);
  });

  test('are in the body file by the container’s paths', () => {
    const body = shell('zstd -dc "$1"', path.join(bundle, 'volumes.body.zst'));
    expect(body).toMatch(/^0\|\/dev\/shm\/\.x\|\d+\|r\/rrw-r--r--\|0\|0\|8\|/m);
    expect(body).toContain('|/cache/new\\x0aline|');
  });
});
