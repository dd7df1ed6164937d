import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import grpc from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { loadController, loadExhibit } from '../../../proto/load.ts';
import { type LabPki, labPki } from '../../lab/pki.ts';
import { RECORDED, RELEASES } from '../../lab/recorded-call.ts';
import { recordedServer } from '../../lab/recorded-server.ts';
import { exhibit, TEST_TIMEOUT_MS } from './run.ts';

/** The command line as it is now, answered by agents and controllers of earlier releases: it prints what theirs printed, or more. */

vi.setConfig({ testTimeout: 3 * TEST_TIMEOUT_MS });

interface Command {
  readonly argv: readonly string[];
  readonly code: number;
  readonly stdout: string;
}

/** One document, or a line an event. */
function documents(text: string): unknown[] {
  try {
    return [JSON.parse(text)];
  } catch {
    return text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as unknown);
  }
}

describe.each(RELEASES)('of %s', (release) => {
  const folder = mkdtempSync(join(tmpdir(), 'exhibit-recorded-'));
  const commands = JSON.parse(readFileSync(join(RECORDED, release, 'commands.json'), 'utf8')) as Record<
    'agent' | 'controller',
    Command[]
  >;
  let pki: LabPki;
  beforeAll(async () => {
    pki = await labPki();
  });
  afterAll(async () => {
    await pki[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true });
  });

  async function replay(all: readonly Command[], where: readonly string[], play: (during: string) => void) {
    expect(all.length).toBeGreaterThan(5);
    for (const { argv, code, stdout } of all) {
      play(`exhibit ${argv.join(' ')}`);
      const ran = await exhibit([...where, ...argv, '--json'], { env: { EXHIBIT_CONTEXTS: join(folder, 'none') } });
      expect({ argv, code: ran.code, stderr: ran.code === code ? '' : ran.stderr }).toEqual({ argv, code, stderr: '' });
      expect(documents(`${ran.stdout}`)).toMatchObject(documents(stdout) as object[]);
    }
  }

  test('an agent is understood', async () => {
    const socket = join(folder, 'agent.sock');
    await using agent = await recordedServer(release, 'agent', {
      ...{ services: [loadExhibit().Agent.service], address: `unix:${socket}` },
      credentials: grpc.ServerCredentials.createInsecure(),
    });
    await replay(commands.agent, ['--socket', socket], agent.play);
  });

  test('a controller is understood', async () => {
    const pair = { private_key: readFileSync(pki.server.keyFile), cert_chain: readFileSync(pki.server.certFile) };
    await using controller = await recordedServer(release, 'controller', {
      ...{ services: [loadController().Controller.service], address: '127.0.0.1:0' },
      credentials: grpc.ServerCredentials.createSsl(null, [pair], false),
    });
    const where = ['--controller', `localhost:${controller.port}`, '--ca', pki.caFile('controller')];
    await replay(commands.controller, where, controller.play);
  });
});
