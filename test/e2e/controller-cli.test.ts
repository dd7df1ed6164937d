import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type CliResult, type LabAgent, runCli, startAgent } from '../lab/agent.ts';
import { type LabController, startController } from '../lab/controller.ts';
import { type LabNode, startNode } from '../lab/node.ts';
import { labObstacle, requireLab } from '../lab/requires.ts';

/** The command line, a controller and the agents of two containerd nodes, each a process of its own. */

const stack = new AsyncDisposableStack();
let controller: LabController;
const nodes: LabNode[] = [];
const agents: (LabAgent & { evidence: string })[] = [];
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
  controller = stack.use(await startController({ config: { identity: { operators }, approvals } }));
  for (const cluster of ['east', 'west']) {
    const node = stack.use(await startNode());
    nodes.push(node);
    const name = `${cluster}-1`;
    const section = await controller.agentSection(cluster, name);
    agents.push(stack.use(await startAgent(node, { config: { cluster, node: name, controller: section } })));
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
    const log = join(folder, 'audit.jsonl');
    writeFileSync(log, (await as('ada', 'audit', '--json')).stdout);
    const checked = await exhibit('audit', '--check', log);
    expect(checked.code, checked.stdout).toBe(0);
  });

  test('lists nodes, and sees that an agent is gone', async () => {
    await agents[1]?.kill();
    const gone = async () => (await exhibit('nodes')).stdout;
    await expect.poll(gone, { timeout: 60_000, interval: 500 }).toMatch(/west\/west-1 +gone since/);
    expect(await gone()).toMatch(/east\/east-1 +connected/);
    const ran = await exhibit('capture', 'prod/web-1', ...QUICK);
    expect(ran.code).toBe(1);
    expect(ran.stderr).toMatch(/prod\/web-1|web-1/);
  });
});
