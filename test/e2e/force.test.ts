import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import type { RequestRecord } from '../../evidence/manifest.ts';
import { startAgent } from '../lab/agent.ts';
import { startController } from '../lab/controller.ts';
import { json } from './readers.ts';

/** Who may begin in spite of what is short on a node, when they are not on it: role, agent's configuration, and what is written of it. */

const PATIENCE = { timeout: 30_000, interval: 50 };
const everywhere = { clusters: ['*'], namespaces: ['*'] };
const operators = [
  { name: 'ada', certificate: 'ada', grants: [{ role: 'admin', ...everywhere }] },
  { name: 'rob', certificate: 'rob', grants: [{ role: 'responder', ...everywhere }] },
];
/** No machine has so much. */
const SHORT = { memory: { minAvailableBytes: '100000GiB' } };

describe('a capture in spite of too little memory', () => {
  test('through a controller takes the role, and the agent that lets the controller', {
    timeout: 120_000,
  }, async (context) => {
    if (process.getuid?.() !== 0) return context.skip('needs root, for the memory of another process');
    await using controller = await startController({ config: { identity: { operators } } });
    const start = async (node: string, override: readonly string[]) =>
      await startAgent(undefined, {
        config: {
          ...{ cluster: 'lab', node, limits: { ...SHORT, override } },
          controller: await controller.agentSection('lab', node),
        },
      });
    await using willing = await start('willing', ['controller']);
    await using unwilling = await start('unwilling', ['socket']);
    await using ada = await controller.client('ada');
    await using rob = await controller.client('rob');
    const connected = async () => (await ada.call('ListNodes', { connectedOnly: true })).nodes.length;
    await vi.waitFor(async () => expect(await connected()).toBe(2), PATIENCE);
    const target = spawn('sleep', ['1000'], { stdio: 'ignore' });
    try {
      await once(target, 'spawn');
      const asked = (node: string, force: boolean) => ({
        ...{ selector: { pid: target.pid ?? 0 }, node, artifacts: ['memory'], force },
      });
      const endOf = async (request: ReturnType<typeof asked>) => {
        const [created] = (await ada.call('CreateCapture', request)).captures;
        const captureId = created?.captureId ?? '';
        const now = () => ada.call('GetCapture', { captureId });
        await vi.waitFor(async () => expect((await now()).endedAtMs).not.toBe('0'), PATIENCE);
        return await now();
      };
      expect(await endOf(asked('willing', false))).toMatchObject({
        state: 'refused',
        error: expect.stringMatching(/limits\.memory\.minAvailableBytes .*Ask again with --force/),
      });
      expect(await endOf(asked('unwilling', true))).toMatchObject({
        state: 'refused',
        error: expect.stringContaining('let it be passed by --force there (limits.override)'),
      });
      await expect(rob.call('CreateCapture', asked('willing', true))).rejects.toThrow(/nobody gave you the role admin/);

      const forced = await endOf(asked('willing', true));
      expect(forced).toMatchObject({ state: 'complete', force: true });
      const bundle = path.join(willing.evidence, 'lab', 'willing', forced.captureId);
      const { overridden, requester } = json<RequestRecord>(bundle, 'request.json');
      expect([overridden, requester.trigger]).toEqual([
        [expect.stringContaining('limits.memory.minAvailableBytes')],
        'controller',
      ]);
      expect(existsSync(unwilling.evidence)).toBe(false);
      const { entries } = await ada.call('ListCustody', { captureId: forced.captureId });
      const created = entries.find(({ action }) => action === 'capture.created');
      expect(JSON.parse(created?.details ?? '')).toMatchObject({ force: true });
      const log = await ada.call('ListCustody', { pageSize: 100 });
      expect(log.entries.map(({ action, actor }) => `${action} ${actor}`)).toContain('access.denied rob');
    } finally {
      target.kill('SIGKILL');
    }
  });

  test('by a file in the request folder takes an agent that lets the folder', { timeout: 60_000 }, async (context) => {
    if (process.getuid?.() !== 0) return context.skip('needs root, for the memory of another process');
    const folder = mkdtempSync('/dev/shm/exhibit-force-');
    const target = spawn('sleep', ['1000'], { stdio: 'ignore' });
    try {
      await using _agent = await startAgent(undefined, {
        config: { limits: { ...SHORT, override: ['folder'] }, requestFolder: { path: folder } },
      });
      const answerTo = async (name: string, more: object) => {
        const request = { target: `pid:${target.pid}`, artifacts: ['memory'], ...more };
        writeFileSync(path.join(folder, `.${name}`), JSON.stringify(request));
        renameSync(path.join(folder, `.${name}`), path.join(folder, name));
        const file = path.join(folder, `${name}.answer.json`);
        const read = () =>
          existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as { state: string }) : undefined;
        await vi.waitFor(() => expect(read()?.state).toMatch(/complete|refused|failed|partial/), PATIENCE);
        return read()?.state;
      };
      expect(await answerTo('one.json', {})).toBe('refused');
      expect(await answerTo('two.json', { force: true })).toBe('complete');
    } finally {
      target.kill('SIGKILL');
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
