import { statSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { addDumps } from '../../../agent/collect/netfilter.ts';
import type { KernelParts } from '../../../agent/host/kernel-presence.ts';
import type { NetfilterReading } from '../../../agent/host/netfilter-read.ts';
import { readConnectionsOf, readNetfilter } from '../../../agent/host/netfilter-read.ts';
import type { ProcfsReader } from '../../../agent/host/procfs-reader.ts';
import { fakeContext } from './proc-context.ts';

const HOST = { procRoot: '/proc', hostRoot: '' };

/** A reader that answers with these, and then fails where it is told to. */
function readerOf(readings: readonly NetfilterReading[], failure?: Error): ProcfsReader {
  return {
    counts: { bytes: 0, opens: 0, cpuMs: 0 },
    async *ask() {
      for (const netfilter of readings) yield { kind: 'node', answer: { about: 'netfilter', netfilter } };
      if (failure) throw failure;
    },
    async [Symbol.asyncDispose]() {},
  };
}

async function added(readings: readonly NetfilterReading[], failure?: Error) {
  const { context, written } = fakeContext(HOST, []);
  const archive = await context.archive('network.tar.zst');
  const work = { context, archive, reader: readerOf(readings, failure) };
  const dumps = await addDumps(
    work,
    { about: 'netfilter', place: { inode: 1, pids: [1] }, connections: true },
    'netns-1/netfilter',
  );
  return { dumps, written };
}

const bytes = Buffer.from('bytes');

describe('a dump', () => {
  test('that the kernel refuses is a gap with its errno', async () => {
    const { written } = await added([
      { name: 'conntrack', reading: { kind: 'failed', errno: 'EPERM' } },
      { name: 'nftables', reading: { kind: 'failed', errno: 'ENOBUFS' } },
    ]);
    expect(written.gaps).toMatchObject([
      { what: 'netns-1/netfilter/conntrack', errno: 'EPERM' },
      { what: 'netns-1/netfilter/nftables', errno: 'ENOBUFS' },
    ]);
    expect(written.members.size).toBe(0);
  });

  test('that this kernel does not have is a note, and so is one that would have to be loaded', async () => {
    const { written } = await added([
      { name: 'inet-sctp', reading: { kind: 'failed', errno: 'ENOENT' } },
      { name: 'nftables', reading: { kind: 'absent', why: 'nf_tables is not in the kernel' } },
    ]);
    expect(written.gaps).toEqual([]);
    expect(written.notes).toHaveLength(1);
    expect(written.notes[0]).toContain('inet-sctp (ENOENT); nftables (nf_tables is not in the kernel)');
  });

  test('that was cut is kept, and a gap', async () => {
    const { dumps, written } = await added([{ name: 'conntrack', reading: { kind: 'read', bytes, truncated: true } }]);
    expect(dumps.get('conntrack')).toEqual(bytes);
    expect(written.gaps).toMatchObject([{ what: 'netns-1/netfilter/conntrack.nlmsg', why: 'cut after 5 bytes' }]);
  });

  test('that changed while it was told is kept, and a note', async () => {
    const { written } = await added([
      { name: 'conntrack', reading: { kind: 'read', bytes, truncated: false, interrupted: true } },
    ]);
    expect(written.gaps).toEqual([]);
    expect(written.notes.join()).toContain('changed while it was told');
  });

  test('before one that blocks is kept', async () => {
    const { dumps, written } = await added(
      [{ name: 'iptables-filter.info', reading: { kind: 'read', bytes, truncated: false } }],
      new Error('no answer within 5000 ms'),
    );
    expect([...dumps.keys()]).toEqual(['iptables-filter.info']);
    expect(written.gaps).toMatchObject([{ why: expect.stringContaining('no answer within 5000 ms') }]);
  });
});

describe('a namespace', () => {
  const parts: KernelParts = { presenceOf: (part) => ({ kind: 'absent', why: `no ${part}` }) };
  const inode = statSync('/proc/self/ns/net').ino;
  const own = { inode, pids: [0x7fffffff, process.pid] };

  test.skipIf(process.getuid?.() !== 0)('is not asked for what is not in the kernel (skipped without root)', () => {
    const asked = readNetfilter(HOST, parts, own, true).filter(({ name }) => !name.startsWith('ip'));
    expect(asked.map(({ name, reading }) => [name, reading.kind])).toEqual([
      ['nftables', 'absent'],
      ['conntrack', 'absent'],
    ]);
    expect(readConnectionsOf(HOST, parts, own, [Buffer.from([127, 0, 0, 1])]).reading).toMatchObject({
      kind: 'absent',
    });
  });

  test('whose processes have ended is unreachable, and so is one whose pid is another process by now', () => {
    const gone = [{ name: 'packet filters', reading: { kind: 'unreachable', errno: 'ENOENT' } }];
    expect(readNetfilter(HOST, parts, { inode, pids: [0x7fffffff] }, true)).toEqual(gone);
    expect(readNetfilter(HOST, parts, { inode: inode + 1, pids: [process.pid] }, true)).toMatchObject([
      { reading: { kind: 'unreachable', errno: 'ESRCH' } },
    ]);
  });

  test('that cannot be reached is a gap', async () => {
    const { written } = await added([{ name: 'sockets', reading: { kind: 'unreachable', errno: 'ENOENT' } }]);
    expect(written.gaps).toMatchObject([{ what: 'netns-1/netfilter: sockets', errno: 'ENOENT' }]);
    const refused = await added([{ name: 'sockets', reading: { kind: 'unreachable', errno: 'EPERM' } }]);
    expect(refused.written.gaps).toMatchObject([{ why: expect.stringContaining('CAP_SYS_ADMIN') }]);
  });
});
