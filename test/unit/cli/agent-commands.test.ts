import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { CAPTURE_ID, Refusal, someCapture, someStage, startFakeAgent } from './fake-agent.ts';
import { exhibit, TEST_TIMEOUT_MS } from './run.ts';

vi.setConfig({ testTimeout: TEST_TIMEOUT_MS });

const CONTAINERS = {
  runtimeName: 'containerd',
  runtimeVersion: '2.1.1',
  containers: [
    {
      id: '0123456789abcdef0123456789abcdef',
      name: 'app',
      namespace: 'prod',
      pod: 'web-0',
      image: 'registry/web:1',
      state: 'running',
      createdAt: '2026-03-01T12:00:00Z',
      labels: { app: 'web' },
    },
    { id: 'fedcba98765432100', name: 'lonely', image: 'busybox', state: 'exited', createdAt: '2026-03-01T12:00:00Z' },
  ],
};

describe('containers', () => {
  test('lists targets by the names that capture takes', async () => {
    await using agent = await startFakeAgent({ containers: CONTAINERS });
    const ran = await exhibit(['containers', '--socket', agent.socket]);
    expect(ran.stdout.toString()).toBe(
      [
        'TARGET          STATE    ID             IMAGE',
        'prod/web-0/app  running  0123456789abc  registry/web:1',
        'name:lonely     exited   fedcba9876543  busybox',
        '',
      ].join('\n'),
    );
    expect(ran).toMatchObject({ code: 0, stderr: '' });
  });

  test('shows the project and service of Docker Compose where there is one, and ids of what has no name to type', async () => {
    const labels = { 'com.docker.compose.project': 'shop', 'com.docker.compose.service': 'web' };
    const web = { ...CONTAINERS.containers[1], name: 'shop-web-1', labels };
    const odd = { ...CONTAINERS.containers[1], name: 'odd name' };
    await using agent = await startFakeAgent({ containers: { ...CONTAINERS, containers: [web, odd] } });
    const ran = await exhibit(['containers', '--socket', agent.socket]);
    expect(ran.stdout.toString().split('\n').slice(0, 3)).toEqual([
      'TARGET             STATE   ID             IMAGE    COMPOSE',
      'name:shop-web-1    exited  fedcba9876543  busybox  shop/web',
      expect.stringMatching(/^fedcba98765432100 {2}exited {2}fedcba9876543 {2}busybox/),
    ]);
  });

  test('with --json gives whole ids, labels and the runtime', async () => {
    await using agent = await startFakeAgent({ containers: CONTAINERS });
    const ran = await exhibit(['--json', 'containers'], { env: { EXHIBIT_SOCKET: agent.socket } });
    expect(JSON.parse(ran.stdout.toString())).toEqual({
      runtime: { name: 'containerd', version: '2.1.1' },
      containers: [CONTAINERS.containers[0], { ...CONTAINERS.containers[1], namespace: null, pod: null, labels: {} }],
    });
  });

  test('says so when the node runs none', async () => {
    await using agent = await startFakeAgent({ containers: { runtimeName: 'containerd', containers: [] } });
    const ran = await exhibit(['containers', '--socket', agent.socket]);
    expect(ran.stdout.toString()).toBe('containerd runs no containers on this node.\n');
  });
});

describe('captures', () => {
  test('lists the newest with their case and asks for no more than --limit', async () => {
    await using agent = await startFakeAgent({ captures: { captures: [someCapture()] } });
    const ran = await exhibit(['captures', '--limit', '5', '--socket', agent.socket]);
    expect(ran.stdout.toString().split('\n')[1]).toBe(
      `${CAPTURE_ID}  2026-03-01T12:00:00Z  complete  prod/web-0/app  5 MiB   0     IR-7`,
    );
    expect(agent.requests).toEqual([{ call: 'ListCaptures', message: { limit: 5 } }]);
  });

  test('with --json gives numbers as numbers, times in RFC 3339 and null for what is not yet', async () => {
    const running = someCapture({ state: 'running', finishedAtMs: 0, bundleUrl: '', caseId: '', stages: [] });
    await using agent = await startFakeAgent({ captures: { captures: [running] } });
    const ran = await exhibit(['captures', '--json', '--socket', agent.socket]);
    expect(JSON.parse(ran.stdout.toString())).toEqual({
      captures: [
        {
          captureId: CAPTURE_ID,
          state: 'running',
          target: 'prod/web-0/app',
          scope: 'container',
          caseId: null,
          reason: 'alert',
          bundleUrl: null,
          startedAt: '2026-03-01T12:00:00.000Z',
          finishedAt: null,
          storedBytes: 5242880,
          gapCount: 0,
          pauseMs: 41.5,
          error: null,
          stages: [],
          waitingSinks: [],
          waitingProblems: [],
          changes: null,
        },
      ],
    });
  });

  test('refuses a limit that is no whole number above zero', async () => {
    for (const limit of ['0', '-1', '1.5', 'ten', '99999']) {
      const ran = await exhibit(['captures', `--limit=${limit}`, '--socket', '/nonexistent']);
      expect(ran.code).toBe(2);
      expect(ran.stderr).toContain('whole number from 1 to');
    }
  });
});

describe('show', () => {
  test('shows the capture and a line a stage', async () => {
    const capture = someCapture({
      state: 'partial',
      gapCount: 3,
      stages: [someStage({ stage: 'checkpoint', status: 'failed', reason: 'criu: no such binary', storedBytes: 0 })],
    });
    await using agent = await startFakeAgent({ capture });
    const ran = await exhibit(['show', '019cab12', '--socket', agent.socket]);
    expect(ran.stdout.toString()).toContain('state     partial\n');
    expect(ran.stdout.toString()).toContain('paused    42 ms\n');
    expect(ran.stdout.toString()).toContain('checkpoint  failed  0 B     1.2 s  -       0     criu: no such binary\n');
    expect(agent.requests).toEqual([{ call: 'GetCapture', message: { captureId: '019cab12' } }]);
    expect(ran.code).toBe(0);
  });

  test('names the sinks that a capture waits for', async () => {
    await using agent = await startFakeAgent({ capture: someCapture({ waitingSinks: ['s3', 'lab'] }) });
    const ran = await exhibit(['show', '019cab12', '--socket', agent.socket]);
    expect(ran.stdout.toString()).toContain('state     complete, waits for s3, lab\n');
    const json = await exhibit(['show', '019cab12', '--json', '--socket', agent.socket]);
    expect(JSON.parse(json.stdout.toString())).toMatchObject({ state: 'complete', waitingSinks: ['s3', 'lab'] });
  });

  test('says since when and why a capture waits, as far as the agent tells', async () => {
    const waiting = { waitingSinks: ['s3', 'lab'], waitingProblems: ['connect ECONNREFUSED 10.0.0.1:443', ''] };
    await using agent = await startFakeAgent({ capture: someCapture(waiting) });
    const ran = await exhibit(['show', '019cab12', '--socket', agent.socket]);
    expect(ran.stdout.toString()).toMatch(/waits +s3 since 2026-03-01T12:00:04Z: connect ECONNREFUSED 10.0.0.1:443\n/);
    expect(ran.stdout.toString()).toMatch(/waits +lab since 2026-03-01T12:00:04Z\n/);
    const json = await exhibit(['show', '019cab12', '--json', '--socket', agent.socket]);
    expect(JSON.parse(json.stdout.toString()).waitingProblems).toEqual(['connect ECONNREFUSED 10.0.0.1:443', null]);
  });

  test('tells a pod from a container, and takes an older agent at its word', async () => {
    for (const [scope, seen] of [
      ['pod', true],
      ['container', false],
      ['', false],
    ] as const) {
      await using agent = await startFakeAgent({ capture: someCapture({ scope }) });
      const ran = await exhibit(['show', '019cab12', '--socket', agent.socket]);
      expect(ran.stdout.toString().includes('scope     pod\n')).toBe(seen);
    }
  });

  test('passes on the sentence and the code of an agent that knows no such capture', async () => {
    await using agent = await startFakeAgent({ capture: new Refusal('capture-not-found', 'There is no capture 7') });
    const words = await exhibit(['show', '7', '--socket', agent.socket]);
    expect(words).toMatchObject({ code: 1, stderr: 'exhibit: There is no capture 7\n' });
    const json = await exhibit(['show', '7', '--json', '--socket', agent.socket]);
    expect(JSON.parse(json.stderr)).toEqual({ error: { code: 'capture-not-found', message: 'There is no capture 7' } });
    expect(json.stdout.length).toBe(0);
  });
});

describe('cancel', () => {
  test('shows what was stored until then', async () => {
    await using agent = await startFakeAgent({ cancelled: someCapture({ state: 'cancelled' }) });
    const ran = await exhibit(['cancel', CAPTURE_ID, '--socket', agent.socket]);
    expect(ran.code).toBe(0);
    expect(ran.stdout.toString()).toMatch(/^capture .*\nstate +cancelled\n/);
  });

  test('says that a capture had already ended', async () => {
    await using agent = await startFakeAgent({ cancelled: someCapture() });
    const ran = await exhibit(['cancel', CAPTURE_ID, '--socket', agent.socket]);
    expect(ran.code).toBe(0);
    expect(ran.stdout.toString()).toMatch(/^Nothing was left to cancel/);
  });
});

describe('doctor', () => {
  const well = { group: 'runtime', name: 'containerd', status: 'ok', found: 'version 2.1.1', meaning: '', mend: '' };
  const ill = {
    group: 'checkpoint',
    name: 'criu',
    status: 'failure',
    found: 'not found',
    meaning: 'No checkpoint',
    mend: 'Install criu',
  };

  test('exits 0 when nothing fails, warnings included, and tells each group by itself', async () => {
    const checks = [
      { ...well, meaning: 'good' },
      { ...ill, status: 'warning' },
      { ...ill, name: 'gpu', status: 'ok', mend: '' },
    ];
    await using agent = await startFakeAgent({ doctor: { checks } });
    const ran = await exhibit(['doctor', '--socket', agent.socket]);
    expect(ran.code).toBe(0);
    expect(ran.stdout.toString()).toBe(
      'runtime\n' +
        'ok    containerd  version 2.1.1\n' +
        '                  good\n' +
        '\n' +
        'checkpoint\n' +
        'warn  criu        not found\n' +
        '                  No checkpoint\n' +
        '                  mend: Install criu\n' +
        'ok    gpu         not found\n' +
        '                  No checkpoint\n' +
        '\n' +
        '3 checks, 1 warning, 0 failures: a capture would work\n',
    );
  });

  test('exits 1 when a check fails, also for --json', async () => {
    await using agent = await startFakeAgent({ doctor: { checks: [well, ill] } });
    const words = await exhibit(['doctor', '--socket', agent.socket]);
    const json = await exhibit(['doctor', '--json', '--socket', agent.socket]);
    expect([words.code, json.code]).toEqual([1, 1]);
    expect(words.stdout.toString()).toContain('1 failure: a capture would fail');
    expect(JSON.parse(json.stdout.toString())).toEqual({ ok: false, checks: [well, ill] });
  });

  test('takes a status it does not know for a failure, and does without groups', async () => {
    await using agent = await startFakeAgent({ doctor: { checks: [{ ...well, group: '', status: 'on fire' }] } });
    const ran = await exhibit(['doctor', '--socket', agent.socket]);
    expect(ran.code).toBe(1);
    expect(ran.stdout.toString()).toMatch(/^FAIL {2}containerd/);
  });

  test('says how to go on without an agent', async () => {
    const ran = await exhibit(['doctor', '--socket', '/nowhere/exhibit.sock']);
    expect(ran.code).toBe(1);
    expect(ran.stderr).toContain('there is no socket /nowhere/exhibit.sock');
    expect(ran.stderr).toContain('`exhibit doctor --config FILE` examines this node from here');
  });

  test('examines from here with a configuration, without an agent', async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'exhibit-cli-'));
    try {
      const config = path.join(folder, 'agent.yaml');
      await writeFile(
        config,
        `{ runtime: { kind: host }, sink: { url: 'file://${folder}/evidence' }, stateDir: '${folder}/state' }`,
      );
      const ran = await exhibit(['doctor', '--config', config, '--json', '--socket', '/nowhere/exhibit.sock']);
      const { ok, checks } = JSON.parse(ran.stdout.toString());
      expect(ran.code).toBe(ok ? 0 : 1);
      expect(checks.find(({ name }: { name: string }) => name === 'sink')).toMatchObject({
        group: 'evidence',
        status: 'ok',
      });
      expect(await readdir(folder)).toEqual(['agent.yaml']);
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  test('takes a configuration that is none for wrong usage', async () => {
    const ran = await exhibit(['doctor', '--config', '/nowhere/agent.yaml']);
    expect(ran.code).toBe(2);
    expect(ran.stderr).toContain('Cannot read the configuration file /nowhere/agent.yaml');
  });
});
