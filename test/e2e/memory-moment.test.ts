import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, readSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { MemoryOptions } from '../../agent/collect/memory.ts';
import { type CoreHeader, headersBytesOf, readHeaders } from '../../evidence/elfheader.ts';
import { sharedObjectSchema } from '../../evidence/elsewhere.ts';
import type { Manifest } from '../../evidence/manifest.ts';
import { runCli, startAgent } from '../lab/agent.ts';
import { whyNoVictims } from '../unit/collect/memory-victim.ts';
import { program } from './readers.ts';

/**
 * What every strategy promises, on a process and its child that keep numbers in lockstep (memory-lockstep.c): the merged cores
 * are of one moment, and shared memory is in them all and stored once.
 */

const reason = whyNoVictims('gdb', 'zstd', 'tar');
const MIB = 48;
const token = randomBytes(8).toString('hex');
let folder: string;
let victim: ChildProcess;
const places = new Map<string, bigint>();

beforeAll(async () => {
  if (reason !== undefined) return;
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-moment-'));
  const file = path.join(folder, 'lockstep');
  execFileSync('gcc', ['-O1', '-pthread', '-o', file, path.join(import.meta.dirname, 'memory-lockstep.c')]);
  victim = spawn(file, [String(MIB), token, '2'], { stdio: ['ignore', 'pipe', 'inherit'] });
  if (victim.stdout === null) throw new Error('no output');
  for await (const line of createInterface({ input: victim.stdout })) {
    if (line === 'ready') break;
    const [name = '', value = '0'] = line.split(' ');
    places.set(name, BigInt(value));
  }
}, 60_000);

afterAll(() => {
  if (reason !== undefined) return;
  process.kill(childPid(), 'SIGKILL');
  victim.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});

beforeEach((context) => {
  if (reason !== undefined) context.skip(reason);
});

const childPid = (): number => Number(places.get('child') ?? 0n);
const parentPid = (): number => victim.pid ?? 0;

interface Result {
  readonly bundle: string;
  readonly facts: Record<string, unknown>;
  readonly notes: readonly string[];
  core(pid: number): Promise<Core>;
}

async function captured(name: string, memory: Record<string, unknown>, level = 1): Promise<Result> {
  const evidence = path.join(folder, name);
  const config = { sink: { url: `file://${evidence}` }, memory, compression: { level } };
  await using agent = await startAgent(undefined, { config });
  const { code, stderr } = await agent.exhibit('capture', `pid:${parentPid()}`, '--artifacts', 'memory');
  expect(code, stderr).toBe(0);
  const base = path.join(evidence, 'lab', 'this-machine');
  const bundle = path.join(base, readdirSync(base)[0] ?? 'none');
  const manifest = JSON.parse(readFileSync(path.join(bundle, 'manifest.json'), 'utf8')) as Manifest;
  const [artifact] = manifest.artifacts;
  if (artifact === undefined) throw new Error('no artifact');
  const core = async (pid: number): Promise<Core> => {
    const file = path.join(folder, `${name}.${pid}.core`);
    const written = await runCli(['core', bundle, String(pid), '--output', file]);
    expect(written.code, written.stderr).toBe(0);
    return new Core(file);
  };
  return { bundle, facts: artifact.facts, notes: artifact.notes, core };
}

/** A core read by nobody but us: one PT_LOAD, one offset. */
class Core {
  readonly file: string;
  readonly #header: CoreHeader;

  constructor(file: string) {
    this.file = file;
    const start = readAt(file, 0, 64);
    const header = readHeaders(readAt(file, 0, headersBytesOf(start) ?? 64));
    if (header === undefined) throw new Error('no core');
    this.#header = header;
  }

  bytes(address: bigint, length: number): Buffer {
    for (const { kind, address: start, fileBytes, fileOffset } of this.#header.programHeaders) {
      if (kind !== 'load' || address < start || address + BigInt(length) > start + BigInt(fileBytes)) continue;
      return readAt(this.file, fileOffset + Number(address - start), length);
    }
    throw new Error(`0x${address.toString(16)} is not in ${this.file}`);
  }

  number(name: string): bigint {
    return this.bytes(places.get(name) ?? 0n, 8).readBigUInt64LE();
  }

  text(name: string): string {
    return this.bytes(places.get(name) ?? 0n, 64)
      .toString('latin1')
      .replace(/\0.*$/s, '');
  }
}

function readAt(file: string, offset: number, length: number): Buffer {
  const fd = openSync(file, 'r');
  try {
    const bytes = Buffer.alloc(length);
    readSync(fd, bytes, 0, length, offset);
    return bytes;
  } finally {
    closeSync(fd);
  }
}

async function expectOneMoment(result: Result): Promise<void> {
  const parent = await result.core(parentPid());
  const child = await result.core(childPid());
  const apart = parent.number('first') - parent.number('last');
  expect([0n, 1n]).toContain(apart);
  const sharedApart = child.number('own') - child.number('shared');
  expect([0n, 1n]).toContain(sharedApart);
  expect(parent.number('shared')).toBe(child.number('shared'));
  for (const core of [parent, child]) {
    expect(core.text('memfd')).toBe(`NEEDLE-memfd-${token}`);
    expect(core.text('hidden')).toBe(`NEEDLE-hidden-${token}`);
    expect(core.text('private')).toBe(`NEEDLE-private-${token}`);
  }
}

const strategies: [MemoryOptions['whenLarger'] | 'buffered', Record<string, unknown>][] = [
  ['buffered', { bufferBytes: '256MiB' }],
  ['pre-copy', { bufferBytes: '32MiB', whenLarger: 'pre-copy' }],
  ['stream-frozen', { bufferBytes: '32MiB', whenLarger: 'stream-frozen' }],
];

describe.each(strategies)('%s', (kind, memory) => {
  let result: Result;
  beforeAll(async () => {
    if (reason === undefined) result = await captured(kind, memory);
  }, 60_000);

  test('is what the manifest says, and nothing was read from a running process', () => {
    expect(result.facts.strategy).toMatchObject({ kind });
    expect(result.facts.liveBytes).toBe(0);
  });

  test('numbers in lockstep are in step, within a process and across the two', { timeout: 60_000 }, () =>
    expectOneMoment(result),
  );

  test('shared memory is stored once', () => {
    const list = execFileSync('sh', ['-c', `zstd -dcq ${result.bundle}/memory.tar.zst | tar -xO shared/objects.jsonl`]);
    const objects = list
      .toString()
      .trim()
      .split('\n')
      .map((line) => sharedObjectSchema.parse(JSON.parse(line)));
    const memfd = objects.find((object) => object.path.includes('memfd:lockstep'));
    expect(memfd?.mappings.map(({ pid }) => pid).sort()).toEqual([parentPid(), childPid()].sort());
    // One page in page tables, and the one that is in none; not eight MiB of holes.
    expect(memfd?.capturedBytes).toBe(2 * 4096);
    const command = `zstd -dcq ${result.bundle}/memory.tar.zst | grep -c NEEDLE-hidden-${token}`;
    expect(execFileSync('sh', ['-c', command]).toString().trim()).toBe('1');
  });

  test('the bundle verifies', { timeout: 30_000 }, async () => {
    const { code, stdout } = await runCli(['verify', result.bundle]);
    expect(code, stdout).toBe(0);
  });

  test('gdb reads shared and private memory from the merged core', { timeout: 60_000 }, async () => {
    const { file } = await result
      .core(childPid())
      .catch(() => ({ file: path.join(folder, `${kind}.${childPid()}.core`) }));
    const at = (name: string): string => `0x${(places.get(name) ?? 0n).toString(16)}`;
    const commands = ['memfd', 'hidden', 'private'].flatMap((name) => ['-ex', `x/s ${at(name)}`]);
    const { stdout } = program('gdb', ['-nx', '-batch', '-ex', `core-file ${file}`, ...commands]);
    for (const name of ['memfd', 'hidden', 'private']) expect(stdout).toContain(`NEEDLE-${name}-${token}`);
  });
});

test('pre-copy freezes for what changed: the busy pages are copied, the rest is referred to', async () => {
  const result = await captured('pre-copy-share', { bufferBytes: '32MiB', whenLarger: 'pre-copy' });
  const { preCopiedBytes, bufferedBytes } = result.facts as { preCopiedBytes: number; bufferedBytes: number };
  expect(preCopiedBytes).toBeGreaterThan((MIB - 8) << 20);
  // 2 MiB that are written all the time, counters, stacks, and shared memory, which is never read ahead.
  expect(bufferedBytes).toBeLessThan(16 << 20);
  expect(bufferedBytes).toBeGreaterThan(2 << 20);
});

test('without compression it is the same evidence, and one flipped byte shows', { timeout: 60_000 }, async () => {
  const result = await captured('level-0', { bufferBytes: '256MiB' }, 0);
  await expectOneMoment(result);
  expect((await runCli(['verify', result.bundle])).code).toBe(0);
  const file = path.join(result.bundle, 'memory.tar.zst');
  execFileSync('zstd', ['-tq', file]);
  const bytes = readFileSync(file);
  bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
  writeFileSync(file, bytes);
  const { code, stdout } = await runCli(['verify', result.bundle]);
  expect(code).not.toBe(0);
  expect(stdout).toContain('memory.tar.zst');
});

test('live reads a running process, and says so', async () => {
  const result = await captured('live', { bufferBytes: '32MiB', whenLarger: 'live' });
  expect(result.facts.strategy).toMatchObject({ kind: 'live' });
  expect(result.facts.liveBytes).toBeGreaterThan(16 << 20);
  expect(result.notes.join('\n')).toMatch(/were read while it ran/);
});

test('memory.include narrows what is taken, and the record says what was left out', async () => {
  const result = await captured('include', { include: ['stack', 'heap', 'modified'] });
  const command = `zstd -dcq ${result.bundle}/memory.tar.zst | tar -xO ${parentPid()}/regions.jsonl`;
  const regions = execFileSync('sh', ['-c', command])
    .toString()
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  const taken = new Set(regions.filter((one) => one.capturedBytes > 0).map((one) => one.kind));
  expect([...taken].sort()).toEqual(['file-private', 'heap', 'stack']);
  for (const one of regions.filter((each) => each.kind === 'file-private'))
    expect(one.capturedBytes).toBe(one.modifiedBytes);
  expect(regions.find((one) => one.kind === 'anonymous' && one.residentBytes > 1 << 20).skipped).toMatch(/include/);
  expect(result.notes.join('\n')).toMatch(/memory\.include: \d+ mappings were left out/);
});
