import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseConfig } from '../../agent/config.ts';
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
