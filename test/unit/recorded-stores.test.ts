import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { zstdDecompressSync } from 'node:zlib';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { openBaselineStore } from '../../agent/capture/baseline-store.ts';
import { createChain } from '../../agent/capture/chain.ts';
import { readDrafts } from '../../agent/capture/drafts.ts';
import { openJournal } from '../../agent/capture/journal.ts';
import { loadConfig as loadAgentConfig } from '../../agent/config.ts';
import { openVault } from '../../agent/sink/vault.ts';
import { parseRequestFile } from '../../agent/trigger/folder-request.ts';
import { loadConfig as loadControllerConfig } from '../../controller/config.ts';
import { openStore } from '../../controller/store/open.ts';
import type { Store } from '../../controller/store/store.ts';
import { verifyAudit } from '../../evidence/audit-log.ts';
import { RECORDED, RELEASES } from '../lab/recorded-call.ts';
import { exhibit, TEST_TIMEOUT_MS } from './cli/run.ts';

/** What earlier releases have on disk, read by this one: docs/compatibility.md. */

vi.setConfig({ testTimeout: TEST_TIMEOUT_MS });
const quiet = pino({ level: 'silent' });

describe.each(RELEASES)('the store of a controller of %s', (release) => {
  const folder = mkdtempSync(join(tmpdir(), 'exhibit-recorded-'));
  const file = join(folder, 'controller.db');
  const open = () => openStore({ url: `sqlite:${file}` }, { log: quiet, now: Date.now });
  let store: Store;

  beforeAll(async () => {
    writeFileSync(file, zstdDecompressSync(readFileSync(join(RECORDED, release, 'controller.db.zst'))));
    store = await open();
  });
  afterAll(async () => {
    await store[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true });
  });

  test('has its captures, each with what the agent told of it', async () => {
    const { rows } = await store.captures({}, { limit: 100 });
    const count = (state: string) => rows.filter((row) => row.state === state).length;
    expect(rows).toHaveLength(8);
    expect(['complete', 'cancelled', 'truncated', 'refused', 'denied'].map(count)).toEqual([4, 1, 1, 1, 1]);
    const complete = rows.filter(({ state }) => state === 'complete');
    expect(complete.map(({ told }) => told?.stages.at(-1)?.stage)).toEqual(complete.map(() => 'seal'));
    expect(rows.find(({ state }) => state === 'denied')).toMatchObject({ namespace: 'guarded', trigger: 'api' });
    expect(rows.filter(({ trigger }) => trigger === 'socket')).toHaveLength(2);
  });

  test('has its nodes and cases', async () => {
    const { rows } = await store.nodes({}, { limit: 10 });
    expect(rows).toMatchObject([
      { cluster: 'lab', node: 'node-1', agentVersion: expect.stringMatching(`^${release}`) },
    ]);
    expect(await store.case('INC-1')).toMatchObject({ title: 'odd traffic', state: 'closed' });
  });

  test('has an audit log whose chain is whole, and which goes on', async () => {
    const before = await store.audit({}, { afterSeq: 0, limit: 1_000 });
    expect(verifyAudit(before)).toMatchObject({ entries: before.length });
    const entry = { atMs: Date.now(), actor: 'ada', action: 'case.noted', captureId: '', caseId: 'INC-1', details: {} };
    await store.appendAudit([entry]);
    const after = await store.audit({}, { afterSeq: 0, limit: 1_000 });
    expect(after).toHaveLength(before.length + 1);
    expect(after.at(-1)?.previous).toBe(before.at(-1)?.digest);
  });
});

describe.each(RELEASES)('what an agent of %s keeps', (release) => {
  const recorded = join(RECORDED, release, 'state');
  const folder = mkdtempSync(join(tmpdir(), 'exhibit-recorded-'));
  cpSync(recorded, folder, { recursive: true });
  afterAll(() => rmSync(folder, { recursive: true }));
  const vault = () => openVault(join(folder, 'spool'), readFileSync(join(folder, 'spool.key')));

  test('is its journal, no entry of which is set aside', async () => {
    const damaged: string[] = [];
    const journal = await openJournal(folder, (file) => damaged.push(file));
    expect(damaged).toEqual([]);
    expect(
      journal
        .entries()
        .map(({ captureId }) => `${captureId}.json`)
        .sort(),
    ).toEqual(readdirSync(join(recorded, 'journal')).sort());
    expect(journal.entries().map(({ state }) => state)).toEqual(['running', 'cancelled', ...Array(4).fill('complete')]);
  });

  test('is the draft of the capture that was under way', async () => {
    const [draft, ...others] = await readDrafts({ vault: await vault(), now: Date.now, log: quiet });
    expect(others).toEqual([]);
    expect(draft?.state.request).toMatchObject({ agent: { version: expect.stringMatching(`^${release}`) } });
    expect([...(draft?.state.objects.keys() ?? [])]).toEqual(
      expect.arrayContaining(['request.json', 'processes.tar.zst']),
    );
  });

  test('is a baseline of a workload, and the end of the chain', async () => {
    const lines: string[] = [];
    const log = pino({ level: 'warn' }, { write: (line: string) => void lines.push(line) });
    const here = await vault();
    const journal = await openJournal(folder, () => undefined);
    const store = await openBaselineStore({ vault: here, maxBytes: 2 ** 20, log });
    expect(journal.entries().filter(({ captureId }) => store.isOf(captureId))).toMatchObject([{ reason: 'after' }]);
    const chain = createChain({ vault: here, log });
    const link = await chain.next('default', new AbortController().signal, async (next) => ({
      ...next,
      ...{ captureId: 'x', sealSha256: '0'.repeat(64) },
    }));
    const previous = (link as { previous?: { captureId: string } }).previous?.captureId;
    expect(journal.get(previous ?? '')?.state).toBe('cancelled');
    expect(lines).toEqual([]);
  });

  test('is left as it is where a newer agent has noted more in it', async () => {
    const here = await vault();
    const index = JSON.parse(`${await here.read('baselines/index')}`) as object[];
    await here.write('baselines/index', Buffer.from(JSON.stringify(index.map((one) => ({ ...one, later: 1 })))));
    await openBaselineStore({ vault: here, maxBytes: 2 ** 20, log: quiet });
    expect(await here.list('baselines')).toHaveLength(2);
  });
});

describe.each(RELEASES)('a bundle of %s', (release) => {
  const folder = join(RECORDED, release);
  const [before, after] = ['before', 'after'].map((name) => join(folder, 'bundles', name));
  const key = join(folder, 'seal.pub.pem');

  test('is intact and vouched for by the key that is known', async () => {
    for (const bundle of [before ?? '', after ?? '']) {
      const { code, stdout, stderr } = await exhibit(['verify', bundle, '--trust', key, '--json']);
      expect(code, stderr).toBe(0);
      expect(JSON.parse(`${stdout}`)).toMatchObject({ intact: true, sealed: true, findings: [] });
    }
  });

  test('is compared with another', async () => {
    const { code, stdout } = await exhibit(['diff', before ?? '', after ?? '', '--verify', '--trust', key, '--json']);
    expect(code).toBe(4);
    expect(`${stdout}`).toContain('sleep 1000');
  });

  test('has its custody told, and its members extracted', async () => {
    const custody = await exhibit(['custody', after ?? '', '--verify', '--trust', key]);
    expect(custody.code, custody.stderr).toBe(0);
    expect(`${custody.stdout}`).toContain('INC-1');
    const list = await exhibit(['extract', after ?? '', 'processes', '--list', '--json']);
    expect(list.code, list.stderr).toBe(0);
    expect((JSON.parse(`${list.stdout}`) as { members: object[] }).members.length).toBeGreaterThan(1);
  });
});

describe.each(RELEASES)('what people of %s wrote', (release) => {
  const config = join(RECORDED, release, 'config');

  test('still configures agent and controller', async () => {
    expect(await loadAgentConfig(join(config, 'agent.yaml'), {})).toMatchObject({ cluster: 'prod-eu' });
    expect(await loadControllerConfig(join(config, 'controller.yaml'), {})).toMatchObject({ name: 'prod' });
  });

  test('still asks for a capture in the folder of requests', () => {
    const request = parseRequestFile('request.json', readFileSync(join(config, 'request.json')));
    expect(request).toMatchObject({
      caseId: 'INC-1',
      scope: 'pod',
      acquirer: 'Ada',
      artifacts: ['processes', 'memory'],
    });
  });
});
