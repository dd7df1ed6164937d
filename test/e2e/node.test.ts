import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Manifest } from '../../evidence/manifest.ts';
import { startAgent } from '../lab/agent.ts';
import { type LabNode, NODE_ADDRESS, startNode } from '../lab/node.ts';
import { labObstacle, requireLab } from '../lab/requires.ts';
import { hasProgram, json, program, shell } from './readers.ts';

/** A pod of a real containerd: what its connections and the kernel look like from the node. */

const PORT = 4713;
/** Sends one packet to the node, which answers that nobody listens, and stays. */
const TALK = ['perl', '-MSocket', '-e'];
const SCRIPT = `socket(my $s, PF_INET, SOCK_DGRAM, 17); send($s, 'x', 0, sockaddr_in(${PORT}, inet_aton('${NODE_ADDRESS}')));
$| = 1; print "sent\\n"; sleep 3600 while 1`;

type Line = Readonly<Record<string, unknown>>;

let node: LabNode;
let folder: string;
let manifest: Manifest;
let unpacked: string;

beforeAll(async () => {
  if (labObstacle() !== undefined) return;
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-node-'));
  node = await startNode();
  // Connections are followed only where a rule asks for their state; kube-proxy's rules do on a node of Kubernetes.
  if (hasProgram('nft')) {
    const rules =
      'table inet allowed { chain c { type filter hook input priority 0; ct state invalid drop comment "by policy"; }; }';
    shell('nsenter -t "$1" -n nft "$2"', String(node.initPid), rules);
  }
  const pod = await node.runPod({
    namespace: 'prod',
    name: 'talk-0',
    containers: [{ name: 'talk', command: [...TALK, SCRIPT] }],
  });
  await pod.exec('talk', [...TALK, SCRIPT.replace('sleep 3600 while 1', 'exit')]);
  await using agent = await startAgent(node, { config: { sink: { url: `file://${folder}/evidence` } } });
  const { code, stderr } = await agent.exhibit('capture', 'prod/talk-0', '--artifacts', 'network,node');
  if (code !== 0) throw new Error(stderr);
  const base = path.join(folder, 'evidence', 'lab', 'lab-node');
  const bundle = path.join(base, readdirSync(base)[0] ?? 'none');
  manifest = json<Manifest>(bundle, 'manifest.json');
  unpacked = path.join(folder, 'unpacked');
  for (const name of ['network', 'node'])
    shell(
      'mkdir -p "$2" && zstd -dc "$1" | tar -x -C "$2"',
      path.join(bundle, `${name}.tar.zst`),
      path.join(unpacked, name),
    );
}, 120_000);

afterAll(async () => {
  if (labObstacle() !== undefined) return;
  await node[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
}, 60_000);

beforeEach((context) => requireLab(context));

const lines = (artifact: string, name: string): Line[] =>
  readFileSync(path.join(unpacked, artifact, name), 'utf8')
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line));

describe('the node', () => {
  test('is told without gaps', () => {
    const gaps = manifest.artifacts.flatMap((artifact) => artifact.gaps);
    // Lockdown and hardened kernels keep these two from root as well.
    const hidden = /tracing\/(enabled_functions|set_ftrace_filter)$/;
    expect(gaps.filter(({ what }) => !hidden.test(what))).toEqual([]);
  });

  test('has the programs by which runc keeps the container from devices', () => {
    const bpf = lines('node', 'bpf.jsonl');
    const devices = bpf.filter(({ object, attachType }) => object === 'attachment' && attachType === 'cgroup_device');
    expect(devices.length).toBeGreaterThan(0);
    for (const { programIds } of devices) {
      for (const id of programIds as number[]) {
        expect(bpf.find((one) => one.object === 'program' && one.id === id)).toMatchObject({ type: 'cgroup_device' });
      }
    }
  });

  test('has the packet filters that nft lists in its network namespace', ({ skip }) => {
    if (!hasProgram('nft')) skip('needs nft (nftables)');
    const { stdout } = program('nsenter', ['-t', String(node.initPid), '-n', 'nft', '-j', 'list', 'ruleset']);
    const judged: Record<string, Line>[] = JSON.parse(stdout).nftables;
    const rule = ({ family, table, chain, handle }: Line) => [family, table, chain, handle].join(' ');
    const mine = lines('node', 'nftables.jsonl').filter(({ object }) => object === 'rule');
    expect(mine.map(rule).sort()).toEqual(judged.flatMap((one) => (one.rule ? [rule(one.rule)] : [])).sort());
    expect(mine.find(({ comment }) => comment === 'by policy')).toBeDefined();
  });

  test('follows the connections of the pod, which are found by its address', ({ skip }) => {
    if (!hasProgram('nft')) skip('needs nft (nftables)');
    const address = lines('network', 'interfaces.jsonl')
      .flatMap(({ addresses }) => addresses as { address: string }[])
      .find(({ address: one }) => one.startsWith('10.88.0.'))?.address;
    expect(address).toBeDefined();
    const found = lines('network', 'conntrack.jsonl').filter((one) => one.node === true);
    expect(found.length).toBeGreaterThan(0);
    expect(found).toContainEqual(
      expect.objectContaining({
        protocol: 'udp',
        original: expect.objectContaining({ source: address, destination: NODE_ADDRESS, destinationPort: PORT }),
      }),
    );
    for (const { original, reply } of found) {
      const ends = [original, reply].flatMap((tuple) => Object.values(tuple as object));
      expect(ends).toContain(address);
    }
  });
});
