import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type CliResult, runCli, startAgent } from '../lab/agent.ts';
import { type LabController, startController } from '../lab/controller.ts';
import { type LabNode, startNode } from '../lab/node.ts';
import { labObstacle, requireLab } from '../lab/requires.ts';

/** The command line, a controller and the agents of two containerd nodes, each a process of its own. */

/** Long enough for an agent that is connected, and short enough to be waited for. */
const EXPIRES_MS = 20_000;

const stack = new AsyncDisposableStack();
let controller: LabController;
let config: Record<string, unknown>;
const nodes: LabNode[] = [];
const agents: Awaited<ReturnType<typeof startAgent>>[] = [];
let folder: string;

beforeEach((context) => requireLab(context));

beforeAll(async () => {
  if (labObstacle() !== undefined) return;
  folder = mkdtempSync(join(tmpdir(), 'exhibit-contexts-'));
  stack.defer(() => rmSync(folder, { recursive: true, force: true }));
  const everywhere = { clusters: ['*'], namespaces: ['*'] };
  const operators = [
    { name: 'ada', certificate: 'ada', grants: [{ role: 'admin', ...everywhere }] },
    { name: 'bo', certificate: 'bo', grants: [{ role: 'responder', clusters: ['*'], namespaces: ['prod', 'vault'] }] },
    { name: 'vi', certificate: 'vi', grants: [{ role: 'viewer', clusters: ['east'], namespaces: ['prod'] }] },
  ];
  const approvals = [{ namespaces: ['vault'] }];
  config = { identity: { operators }, approvals, captures: { expiresMs: EXPIRES_MS } };
  controller = stack.use(await startController({ config }));
  const policy = { namespaces: { deny: ['guarded'] }, triggers: { controller: { freeze: { perHourMs: 0 } } } };
  for (const cluster of ['east', 'west']) {
    const node = stack.use(await startNode());
    nodes.push(node);
    const name = `${cluster}-1`;
    const section = await controller.agentSection(cluster, name);
    agents.push(stack.use(await startAgent(node, { config: { cluster, node: name, controller: section, policy } })));
  }
  const container = { name: 'app' };
  await nodes[0]?.runPod({ namespace: 'prod', name: 'web-0', labels: { app: 'web' }, containers: [container] });
  await nodes[1]?.runPod({ namespace: 'prod', name: 'web-1', labels: { app: 'web' }, containers: [container] });
  await nodes[1]?.runPod({ namespace: 'vault', name: 'keys-0', labels: { app: 'keys' }, containers: [container] });
  for (const name of ['ada', 'bo', 'vi']) {
    const { certFile, keyFile } = await controller.pki.operator(name);
    const files = ['--ca', controller.pki.caFile('controller'), '--cert', certFile, '--key', keyFile];
    const set = await exhibit('context', 'set', name, '--controller', controller.api, ...files);
    expect(set.code, set.stderr).toBe(0);
  }
}, 180_000);

afterAll(async () => stack.disposeAsync());

const exhibit = (...argv: string[]): Promise<CliResult> =>
  runCli(argv, { EXHIBIT_CONTEXTS: join(folder, 'contexts.yaml') });
const as = (name: string, ...argv: string[]) => exhibit('--context', name, ...argv);

/** Of a place where a second person decides. */
const waiting: string[] = [];
const QUICK = ['--artifacts', 'processes'];
const bundlesIn = (text: string) => [...text.matchAll(/file:\/\/\S+/g)].map(([url]) => url);

describe('a person at the command line', () => {
  test('sees every agent that is connected', async () => {
    const connected = async () =>
      (await exhibit('nodes', '--connected', '--json')).stdout.match(/"connected": true/g)?.length;
    await expect.poll(connected, { timeout: 60_000, interval: 250 }).toBe(2);
  });

  test('captures a pod without knowing its node, and verifies what came of it', async () => {
    const ran = await exhibit('capture', 'prod/web-1', ...QUICK, '--reason', 'an alert');
    expect(ran.code, ran.stderr).toBe(0);
    expect(ran.stderr).toMatch(/west\/west-1 +prod\/web-1\/app/);
    expect(ran.stderr).toContain('processes: captured');
    const [bundle = ''] = bundlesIn(ran.stdout);
    expect(bundle).toContain('/west/west-1/');
    expect((await runCli(['verify', bundle])).code).toBe(0);
    const request = JSON.parse((await runCli(['extract', bundle, 'request.json'])).stdout || '{}') as object;
    expect(JSON.stringify(request)).toContain('ada');
  });

  test('captures every pod with a label over both clusters', async () => {
    const dry = await exhibit('capture', 'app=web', '--dry-run', '--json');
    expect(dry.code, dry.stderr).toBe(0);
    expect((JSON.parse(dry.stdout) as { captures: object[] }).captures).toHaveLength(2);
    const ran = await exhibit('capture', 'app=web', '-n', 'prod', ...QUICK);
    expect(ran.code, ran.stderr).toBe(0);
    const bundles = bundlesIn(ran.stdout).filter((url, at, all) => all.indexOf(url) === at);
    expect(bundles.map((url) => url.split('/').at(-3)).sort()).toEqual(['east', 'west']);
    for (const bundle of bundles) expect((await runCli(['verify', bundle])).code).toBe(0);
  });

  test('joins what the same id began', async () => {
    const id = '0198c0de-3c4f-7a10-8000-5f2c0a7e9b11';
    const first = await exhibit('capture', 'prod/web-0', ...QUICK, '--id', id, '--detach');
    const second = await exhibit('capture', 'prod/web-0', ...QUICK, '--id', id, '--detach');
    expect(first.code, first.stderr).toBe(0);
    expect(second.stdout).toBe(first.stdout);
    const watched = await exhibit('watch', first.stdout.trim());
    expect(watched.code, watched.stderr).toBe(0);
    expect(watched.stdout).toContain('complete');
    const other = await exhibit('capture', 'prod/web-1', ...QUICK, '--id', id);
    expect(other.code).toBe(1);
  });

  test('waits for a second person where it has to, who is never the first', async () => {
    const asked = await as('bo', 'capture', 'vault/keys-0', ...QUICK);
    expect(asked.code, asked.stderr).toBe(0);
    const id = /^capture +(\S+)$/m.exec(asked.stdout)?.[1] ?? '';
    expect(asked.stdout).toContain(`exhibit approve ${id}`);
    expect((await as('bo', 'approve', id)).code).toBe(1);
    expect((await as('ada', 'approve', id)).code).toBe(0);
    const watched = await as('bo', 'watch', id);
    expect(watched.code, watched.stderr).toBe(0);
    const shown = await as('bo', 'show', id);
    expect(shown.stdout).toMatch(/approved .*ada/);
    const denied = await as('bo', 'capture', 'vault/keys-0', ...QUICK, '--json');
    const again = /"captureId":"([^"]+)"/.exec(denied.stdout)?.[1] ?? '';
    expect((await as('ada', 'deny', again, '--reason', 'not now')).stdout).toContain('denied');
  });

  test('sees and does no more than their role allows', async () => {
    const seen = await as('vi', 'containers');
    expect(seen.code, seen.stderr).toBe(0);
    expect(seen.stdout).toContain('prod/web-0/app');
    expect(seen.stdout).not.toMatch(/web-1|keys-0/);
    const refused = await as('vi', 'capture', 'prod/web-0', ...QUICK);
    expect(refused.code).toBe(1);
    expect((await as('vi', 'context', 'whoami')).stdout).toMatch(/viewer +east +prod/);
    expect((await as('vi', 'captures')).stdout).not.toContain('west/');
  });

  test('opens a case, captures into it, and reads what everybody did', async () => {
    expect((await as('bo', 'cases', 'open', 'IR-1', '--title', 'a miner')).code).toBe(0);
    const ran = await as('bo', 'capture', 'prod/web-0', ...QUICK, '--case', 'IR-1');
    expect(ran.code, ran.stderr).toBe(0);
    await as('bo', 'cases', 'note', 'IR-1', '--text', 'looks bad');
    expect((await as('bo', 'captures', '--case', 'IR-1')).stdout).toContain('prod/web-0/app');
    const closed = await as('bo', 'cases', 'close', 'IR-1', '--text', 'handed over');
    expect(closed.stdout).toMatch(/closed .*bo/);
    expect((await as('bo', 'capture', 'prod/web-0', ...QUICK, '--case', 'IR-1')).code).toBe(1);
    const audit = await as('ada', 'audit', '--case', 'IR-1');
    expect(audit.stdout).toContain('case.opened');
    expect(audit.stdout).toContain('case.closed');
  });

  test('captures what is left of a container that has ended, by its name and by its id', async () => {
    const command = ['sh', '-c', 'echo what-it-did > /tmp/.planted; exit 3'];
    const pod = await nodes[0]?.runPod({ namespace: 'prod', name: 'job-0', containers: [{ name: 'job', command }] });
    const listed = async () => (await exhibit('containers', '-n', 'prod', '--json')).stdout;
    await expect.poll(listed, { timeout: 30_000 }).toMatch(/"exited"/);
    const id = pod?.containers.job ?? '';
    for (const target of ['prod/job-0', id]) {
      const ran = await exhibit('capture', target, '--artifacts', 'rootfs,logs');
      expect(ran.code, ran.stderr).toBe(0);
      expect(ran.stderr).toContain('prod/job-0/job');
      const [bundle = ''] = bundlesIn(ran.stdout);
      expect((await runCli(['verify', bundle])).code).toBe(0);
      expect((await runCli(['extract', bundle, 'rootfs', '--list'])).stdout).toContain('tmp/.planted');
    }
    const nothing = await exhibit('capture', 'prod/job-0', '--artifacts', 'memory');
    expect(nothing.code).toBe(1);
    expect(nothing.stderr).toMatch(/ended refused: .*exited/);
  });

  test('makes no agent do what its own policy forbids, whatever they may at the controller', async () => {
    await nodes[0]?.runPod({ namespace: 'guarded', name: 'keys-1', containers: [{ name: 'app' }] });
    for (const [target, artifacts, rule] of [
      ['guarded/keys-1', 'processes', 'policy.namespaces.deny'],
      ['prod/web-0', 'memory', 'policy.triggers.controller.freeze.perHourMs'],
    ] as const) {
      const ran = await as('ada', 'capture', target, '--artifacts', artifacts);
      expect(ran.code).toBe(1);
      expect(ran.stderr).toContain(`ended refused`);
      expect(ran.stderr).toContain(rule);
    }
    const elsewhere = await as('ada', 'capture', 'prod/web-0', ...QUICK, '--sink', 'file:///tmp');
    expect(elsewhere.stderr).toMatch(/ended refused: .*file:\/\/\/tmp/);
    expect((await as('ada', 'captures', '-n', 'guarded')).stdout).toMatch(/refused/);
  });

  test('watches on while the controller is killed and started again, until the second person and the end', async () => {
    const asked = await as('bo', 'capture', 'vault/keys-0', ...QUICK);
    const id = /^capture +(\S+)$/m.exec(asked.stdout)?.[1] ?? '';
    const watched = as('bo', 'watch', id, '--json');
    await controller.kill();
    controller = stack.use(await startController({ config, after: controller }));
    const west = async () => (await exhibit('nodes', '--connected')).stdout;
    await expect.poll(west, { timeout: 60_000, interval: 250 }).toContain('west-1');
    expect((await as('ada', 'approve', id)).code).toBe(0);
    const { code, stdout, stderr } = await watched;
    expect(code, stderr).toBe(0);
    expect(stdout).toContain('"event":"stage-ended"');
    expect(stdout).toContain('"state": "complete"');
  });

  test('exports the whole log, which is found intact without a controller, and what is altered in it is found', async () => {
    const exported = await as('ada', 'audit', '--json');
    const file = join(folder, 'audit.jsonl');
    writeFileSync(file, exported.stdout);
    const checked = await runCli(['audit', '--check', file]);
    expect(checked.code, checked.stderr).toBe(0);
    const known = checked.stdout.trim().split('\n').at(-1) ?? '';
    expect((await runCli(['audit', '--check', file, '--known', known])).code).toBe(0);
    writeFileSync(file, readFileSync(file, 'utf8').replace('case.noted', 'case.NOTED'));
    const altered = await runCli(['audit', '--check', file]);
    expect(altered.code).toBe(1);
    expect(altered.stderr).toMatch(/entry \d+ was altered/);
    expect((await as('bo', 'audit', '--json')).code).toBe(1);
  });

  test('lists nodes, and sees that an agent is gone', async () => {
    for (const _ of ['cancelled', 'expired']) {
      const asked = await as('bo', 'capture', 'vault/keys-0', ...QUICK);
      waiting.push(/^capture +(\S+)$/m.exec(asked.stdout)?.[1] ?? '');
    }
    await agents[1]?.kill();
    const gone = async () => (await exhibit('nodes')).stdout;
    await expect.poll(gone, { timeout: 60_000, interval: 500 }).toMatch(/west\/west-1 +gone since/);
    expect(await gone()).toMatch(/east\/east-1 +connected/);
    const ran = await exhibit('capture', 'prod/web-1', ...QUICK);
    expect(ran.code).toBe(1);
    expect(ran.stderr).toMatch(/prod\/web-1|web-1/);
  });

  test('cancels a command for a node that is away, and is told when the time of another is over', async () => {
    const [one = '', other = ''] = waiting;
    for (const id of [one, other]) expect((await as('ada', 'approve', id)).stdout).toMatch(/state +queued/);
    const cancelled = await as('bo', 'cancel', one);
    expect(cancelled.code, cancelled.stderr).toBe(0);
    expect(cancelled.stdout).toMatch(/state +cancelled/);
    expect((await as('bo', 'cancel', one)).stdout).toMatch(/state +cancelled/);
    const watched = await as('bo', 'watch', other);
    expect(watched.code).toBe(1);
    expect(watched.stderr).toMatch(/ended expired: It was not sent before its time was over/);
    expect((await as('bo', 'cancel', other)).stdout).toContain('had already ended');
    const [, node] = nodes;
    const at = agents[1]?.folder ?? folder;
    const section = await controller.agentSection('west', 'west-1');
    const back = { cluster: 'west', node: 'west-1', controller: section };
    stack.use(await startAgent(node, { config: back, folder: at }));
    const connected = async () => (await exhibit('nodes', '--connected')).stdout;
    await expect.poll(connected, { timeout: 60_000, interval: 250 }).toContain('west-1');
    expect((await exhibit('capture', 'prod/web-1', ...QUICK)).code).toBe(0);
    for (const id of [one, other]) expect((await as('bo', 'show', id)).stdout).toMatch(/state +(cancelled|expired)/);
  });
});
