import { mkdtemp, readdir, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { Writable } from 'node:stream';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { rehearse, startRehearsal } from '../../../agent/capture/rehearsal.ts';
import { parseConfig } from '../../../agent/config.ts';
import { openSink } from '../../../agent/sink/open.ts';
import { openVault } from '../../../agent/sink/vault.ts';
import { ARTIFACTS } from '../../../evidence/layout.ts';
import { oneFile, runtime } from './spine.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'exhibit-rehearsal-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

async function setting(connect: () => Promise<void> = async () => undefined) {
  const collected: string[] = [];
  const lines: { msg: string; step?: string }[] = [];
  const to = new Writable({
    write(chunk, _encoding, done) {
      lines.push(JSON.parse(String(chunk)));
      done();
    },
  });
  const config = parseConfig(`sink: { url: "file://${folder}/evidence" }\nnode: n1`, 'test', {});
  const vault = await openVault(path.join(folder, 'vault'), Buffer.alloc(32));
  const sinks = config.sinks.map(({ name, sink }) => ({ name, sink: { ...openSink(sink), connect } }));
  const collectors = Object.fromEntries(
    ARTIFACTS.map((artifact) => [
      artifact,
      {
        artifact,
        collect: async (context: Parameters<ReturnType<typeof oneFile>>[0]) => {
          collected.push(artifact);
          await oneFile(artifact)(context);
        },
      },
    ]),
  ) as unknown as Parameters<typeof rehearse>[0]['collectors'];
  const host = { procRoot: '/proc', hostRoot: '' };
  const parts = { config, host, collectors, runtimes: [runtime], sinks, encrypt: undefined, vault, version: '0.0.0' };
  return { parts: { ...parts, log: pino({}, to) }, vault, collected, lines };
}

describe('a rehearsal', () => {
  test('takes what is gone first of the agent itself, and leaves nothing in sink and vault', async () => {
    const { parts, vault, collected, lines } = await setting();
    await rehearse(parts, new AbortController().signal);
    expect(lines.map(({ msg, step }) => [msg, step])).toEqual([['rehearsed', undefined]]);
    expect(collected).toEqual(['processes', 'network']);
    expect(await vault.list('')).toEqual([]);
    expect(await readdir(folder)).toEqual(['vault']);
  });

  test('goes on after a step that fails, and says which', async () => {
    const { parts, collected, lines } = await setting(async () => {
      throw new Error('S3 is away');
    });
    await rehearse(parts, new AbortController().signal);
    expect(lines.map(({ msg, step }) => [msg, step])).toEqual([
      ['rehearsal failed', 'sinks'],
      ['rehearsed', undefined],
    ]);
    expect(collected).toEqual(['processes', 'network']);
  });

  test('is left out where it would take the last memory', async () => {
    const { parts, collected, lines } = await setting();
    const room = async () => ({ availableBytes: 2 ** 40, cgroupRoomBytes: 64 * 2 ** 20 });
    await rehearse({ ...parts, room }, new AbortController().signal);
    expect(lines.map(({ msg }) => msg)).toEqual(['not rehearsed for want of memory']);
    expect(collected).toEqual([]);
  });

  test('ends as soon as a capture begins', async () => {
    const end = new AbortController();
    const { parts, collected, lines } = await setting(async () => end.abort());
    await rehearse(parts, end.signal);
    expect(collected).toEqual([]);
    expect(lines).toEqual([]);
  });

  test('that was disposed before its time never begins', async () => {
    const { parts, collected, lines } = await setting();
    await startRehearsal(parts, new AbortController())[Symbol.asyncDispose]();
    expect(collected).toEqual([]);
    expect(lines).toEqual([]);
  });
});
