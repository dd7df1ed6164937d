import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { nodeCollector } from '../../../agent/collect/node.ts';
import { readBpf } from '../../../agent/host/bpf-read.ts';
import { openInlineReader } from '../../../agent/host/procfs-reader.ts';
import type { Target } from '../../../agent/runtime/runtime.ts';
import { placeRecording, recordedFacts } from '../fixtures/proc/proc-tree.ts';
import { namespaceObstacle } from './namespace.ts';
import { fakeContext, type Json, jsonLines, type Written } from './proc-context.ts';
import { type SmallNode, startSmallNode } from './small-node.ts';

const obstacle = namespaceObstacle('python3');
const bpftool = ['/usr/sbin/bpftool', '/sbin/bpftool'].find(existsSync);
const text = (written: Written, name: string): string | undefined => written.members.get(name)?.toString('utf8');

describe('a recorded tree that has none of it', () => {
  const fact = recordedFacts('specimen');
  const host = placeRecording('specimen');
  afterAll(() => host[Symbol.dispose]());

  test('gives empty lists and says why', async () => {
    const { context, written } = fakeContext(host, [fact('pid')]);
    const elsewhere = { ...context, host: { ...host, hostRoot: '/nowhere' } };
    await nodeCollector({ openReader: () => openInlineReader(elsewhere.host) }).collect(elsewhere);
    expect(written.committed).toBe(true);
    expect(jsonLines(written, 'modules.jsonl')).toEqual([]);
    expect(written.notes.join('\n')).toContain('/proc/modules');
    expect(written.gaps.map(({ what }) => what)).toContain('packet filters of the node');
  });
});

describe.skipIf(obstacle !== undefined)(`a small node (${obstacle ?? 'real'})`, () => {
  let node: SmallNode;
  let written: Written;
  let bpf: Json[];
  const object = (kind: string, id: unknown) => bpf.find((one) => String(one.object) === kind && Number(one.id) === id);

  beforeAll(async () => {
    node = await startSmallNode();
    const made = fakeContext(node.host, []);
    written = made.written;
    const target = { record: { cgroup: node.cgroup }, companions: [] } as unknown as Target;
    await nodeCollector().collect({ ...made.context, target });
    bpf = jsonLines(written, 'bpf.jsonl');
  });
  afterAll(() => node[Symbol.asyncDispose]());

  test('has no gaps', () => {
    // Lockdown and hardened kernels keep these two from root as well.
    const hidden = /tracing\/(enabled_functions|set_ftrace_filter)$/;
    expect(written.gaps.filter(({ what, errno }) => !(errno === 'EPERM' && hidden.test(what)))).toEqual([]);
    expect(written.committed).toBe(true);
  });

  test('tells the settings of its kernel with why they are asked for, and keeps the files', () => {
    const rows = jsonLines(written, 'kernel.jsonl');
    const row = (name: string) => rows.find((one) => String(one.name) === name);
    const pattern = readFileSync('/proc/sys/kernel/core_pattern', 'utf8');
    expect(row('proc/sys/kernel/core_pattern')).toMatchObject({
      value: pattern.trimEnd(),
      reason: expect.stringContaining('way out'),
    });
    expect(text(written, 'proc/sys/kernel/core_pattern')).toBe(pattern);
    expect(text(written, 'proc/1/mountinfo')).toBe(readFileSync(`/proc/${node.pid}/mountinfo`, 'utf8'));
    expect(String(row('proc/uptime')?.startedAt)).toMatch(/^\d{4}-\d\d-\d\dT.*Z$/);
    if (existsSync('/etc/os-release')) {
      expect(text(written, 'etc/os-release')).toBe(readFileSync('/etc/os-release', 'utf8'));
    }
    for (const [kind, member] of [
      ['tracefs', 'sys/kernel/tracing/current_tracer'],
      ['binfmt_misc', 'proc/sys/fs/binfmt_misc/status'],
    ] as const) {
      expect(written.members.has(member), kind).toBe((node.facts.mounted as string[]).includes(kind));
    }
  });

  test('tells each program with its maps, its holders and its pins', () => {
    const holder = { pid: 1, fd: node.facts.filterFd };
    expect(object('program', node.facts.filter)).toMatchObject({
      type: 'socket_filter',
      name: 'exhibit_filter',
      mapIds: [node.facts.map],
      uid: 0,
      gplCompatible: true,
      holders: [holder],
      pinned: (node.facts.mounted as string[]).includes('bpf') ? ['/sys/fs/bpf/folder/pinned'] : [],
    });
    expect(object('map', node.facts.map)).toMatchObject({
      type: 'hash',
      name: 'exhibit_map',
      keyBytes: 4,
      valueBytes: 8,
      entriesMax: 16,
    });
    const loaded = Date.parse(String(object('program', node.facts.filter)?.loadedAt));
    expect(Math.abs(loaded - Date.now())).toBeLessThan(120_000);
  });

  test('tells what links attach programs to', () => {
    const { facts } = node;
    const inode = Number(written.facts.networkNamespace);
    const links = [
      ['netnsLink', { type: 'netns', attachType: 'sk_lookup', namespace: inode }],
      ['tracepointLink', { type: 'raw_tracepoint', tracepoint: 'sched_process_hang' }],
      ['netfilterLink', { type: 'netfilter', family: 2, hook: 1, priority: -7 }],
    ] as const;
    const there = links.filter(([name]) => facts[name] !== undefined);
    expect(there.length, JSON.stringify(facts)).toBeGreaterThan(0);
    for (const [name, expected] of there) expect(object('link', facts[name]), name).toMatchObject(expected);
    if ((facts.mounted as string[]).includes('bpf') && facts.netnsLink !== undefined) {
      const pinned = ['/sys/fs/bpf/linked'];
      expect(object('link', facts.netnsLink)).toMatchObject({ pinned });
    }
  });

  test('tells what is attached to the control group of the target', ({ skip }) => {
    if (node.cgroup === undefined) skip('needs cgroup2');
    const attached = bpf.filter(
      (one) => String(one.object) === 'attachment' && String(one.attachType) === 'cgroup_inet_egress',
    );
    expect(attached.find(({ effective }) => !effective)).toMatchObject({ programIds: [node.facts.cgroupProgram] });
    expect(attached.find(({ effective }) => Boolean(effective))).toMatchObject({
      programIds: expect.arrayContaining([node.facts.cgroupProgram]),
    });
  });

  test('bpftool lists the same programs, maps, links and instructions', ({ skip }) => {
    if (bpftool === undefined) return skip('needs bpftool (Debian’s bpftool)');
    const show = (kind: string): Json[] =>
      JSON.parse(execFileSync(bpftool, ['-j', kind, 'show'], { encoding: 'utf8' }));
    const ids = (kind: string) => bpf.filter((one) => String(one.object) === kind).map(({ id }) => Number(id));
    const ours = [node.facts.filter, node.facts.cgroupProgram].filter((id) => id !== undefined);
    const programs = show('prog');
    for (const id of ours) expect(ids('program')).toContain(id);
    // Others on this machine may come and go; those that both saw are described alike.
    const common = programs.filter(({ id }) => ids('program').includes(Number(id)));
    expect(common.length).toBeGreaterThanOrEqual(ours.length);
    for (const program of common) {
      const mine = object('program', Number(program.id));
      expect(mine).toMatchObject({
        tag: String(program.tag),
        uid: Number(program.uid),
        translatedBytes: Number(program.bytes_xlated),
        jitedBytes: Number(program.bytes_jited ?? 0),
        mapIds: program.map_ids ?? [],
        name: String(program.name ?? ''),
      });
      // bpftool's clock is to the second.
      expect(Math.abs(Date.parse(String(mine?.loadedAt)) / 1000 - Number(program.loaded_at))).toBeLessThan(2);
    }
    for (const map of show('map').filter(({ id }) => ids('map').includes(Number(id)))) {
      expect(object('map', Number(map.id))).toMatchObject({
        keyBytes: Number(map.bytes_key),
        valueBytes: Number(map.bytes_value),
        entriesMax: Number(map.max_entries),
        flags: `0x${Number(map.flags).toString(16)}`,
      });
    }
    for (const link of show('link').filter(({ id }) => ids('link').includes(Number(id)))) {
      expect(object('link', Number(link.id))).toMatchObject({ programId: Number(link.prog_id) });
    }
    const folder = mkdtempSync(path.join(tmpdir(), 'exhibit-xlated-'));
    try {
      const file = path.join(folder, 'xlated');
      execFileSync(bpftool, ['prog', 'dump', 'xlated', 'id', String(node.facts.filter), 'file', file]);
      expect(written.members.get(`bpf/program-${node.facts.filter}.xlated`)).toEqual(readFileSync(file));
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test('has the packet filters of its own network namespace', ({ skip }) => {
    if (node.facts.pod === undefined) skip(`needs a pod behind address translation: ${node.facts.podError}`);
    const rules = jsonLines(written, 'nftables.jsonl').filter(({ object: kind }) => String(kind) === 'rule');
    expect(rules).toMatchObject([
      { family: 'ip', table: 'node', chain: 'post', comment: 'pods', namespace: written.facts.networkNamespace },
    ]);
    expect([...written.members.keys()]).toContain(
      `netns-${written.facts.networkNamespace}/netfilter/nftables-rules.nlmsg`,
    );
    expect(jsonLines(written, 'traffic-control.jsonl').map((one) => String(one.interface))).toContain('veth0');
  });
});

describe.skipIf(obstacle !== undefined)('asking bpf(2)', () => {
  test('leaves no descriptor open', () => {
    const own = '/proc/self/fd';
    const open = () =>
      readdirSync(own)
        .map((fd) => (existsSync(`${own}/${fd}`) ? readlinkSync(`${own}/${fd}`) : ''))
        .filter((target) => /bpf|btf|^\/sys/.test(target));
    for (const _ of readBpf(['/sys', '/nowhere'], ['/sys', '/nowhere'])) void _;
    expect(open()).toEqual([]);
  });
});
