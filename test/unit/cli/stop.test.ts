import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { exhibit, TEST_TIMEOUT_MS } from './run.ts';

vi.setConfig({ testTimeout: TEST_TIMEOUT_MS });

/** As kubelet does to a pod that is deleted while it starts: once, as soon as the program listens, and before it has read its own code. */
const EARLY = `let sent = false;
process.on('newListener', (name) => {
  if (name !== 'SIGTERM' || sent) return;
  sent = true;
  process.nextTick(() => process.kill(process.pid, 'SIGTERM'));
});`;

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-stop-'));
  writeFileSync(path.join(folder, 'early.mjs'), EARLY);
  writeFileSync(
    path.join(folder, 'config.yaml'),
    `sink: { url: "file://${folder}/evidence" }
socket: ${folder}/exhibit.sock
stateDir: ${folder}/state
spool: { disk: true }
runtime: { kind: host }`,
  );
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('an agent that is asked to end while it is being loaded', () => {
  test('ends, and is not killed for it later', async () => {
    const ran = await exhibit(['agent', '--config', path.join(folder, 'config.yaml')], {
      env: { NODE_OPTIONS: `--import=${path.join(folder, 'early.mjs')}` },
    });
    expect(ran).toMatchObject({ code: 143, stderr: expect.stringContaining('exhibit: Stopped by SIGTERM.') });
  });
});
