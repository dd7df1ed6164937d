import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseConfig } from '../../agent/config.ts';
import { memoryFileSystem } from '../../agent/host/folder-facts.ts';
import { startAgent } from '../../agent/main.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'exhibit-main-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const configured = () =>
  parseConfig(
    `sink: { url: "file://${folder}/evidence" }
socket: ${folder}/exhibit.sock
stateDir: ${folder}/state
spool: { disk: true }
runtime: { kind: host }`,
    'test',
    {},
  );

describe('an agent that is started beside a living one', () => {
  test('is refused before it touches anything that the other one writes', async () => {
    const spool = path.join(folder, 'state/spool');
    await mkdir(path.join(spool, 'objects'), { recursive: true });
    // Whoever opens the vault takes this for what a dead agent left.
    await writeFile(path.join(spool, 'objects/part.new'), 'being written');
    const living = net.createServer().listen(path.join(folder, 'exhibit.sock'));
    await once(living, 'listening');
    try {
      await expect(startAgent(configured(), pino({ level: 'silent' }))).rejects.toMatchObject({
        code: 'config',
        message: expect.stringContaining('Another agent already serves'),
      });
    } finally {
      living.close();
    }
    expect(await readdir(path.join(spool, 'objects'))).toEqual(['part.new']);
    expect(await readdir(path.join(folder, 'state'))).toEqual(['spool']);
  });
});

/** hier(7): kept over reboots, and emptied by them. */
const [DISK, MEMORY] = ['/var/tmp', '/dev/shm'];
const hasBoth =
  existsSync(DISK) &&
  existsSync(MEMORY) &&
  (await memoryFileSystem(DISK)) === undefined &&
  (await memoryFileSystem(MEMORY)) !== undefined;

describe.skipIf(!hasBoth)(
  `an agent with a spool on a disk ${hasBoth ? '' : `(needs a disk at ${DISK} and a tmpfs at ${MEMORY})`}`,
  () => {
    let disk: string;
    let memory: string;
    beforeEach(async () => {
      disk = await mkdtemp(path.join(DISK, 'exhibit-main-'));
      memory = await mkdtemp(path.join(MEMORY, 'exhibit-main-'));
    });
    afterEach(async () => {
      await rm(disk, { recursive: true, force: true });
      await rm(memory, { recursive: true, force: true });
    });

    async function logOfStart(more: string): Promise<string> {
      const lines: string[] = [];
      const text = `sink: { url: "file://${folder}/evidence" }
socket: ${memory}/exhibit.sock
stateDir: ${memory}/state
spool: { disk: true, path: ${disk}/spool${more} }
runtime: { kind: host }`;
      const agent = await startAgent(parseConfig(text, 'test', {}), pino({}, { write: (line) => lines.push(line) }));
      await agent[Symbol.asyncDispose]();
      return lines.join('');
    }

    const LOST = 'the spool is on a disk and its key in memory: a reboot loses what waits there';

    test('says at its start that a reboot loses what waits, unless its key outlives that', async () => {
      expect(await logOfStart('')).toContain(LOST);
      await rm(disk, { recursive: true });
      await mkdir(disk);
      await writeFile(path.join(disk, 'key'), Buffer.alloc(32, 7));
      expect(await logOfStart(`, keyFile: ${disk}/key`)).not.toContain(LOST);
    });
  },
);
