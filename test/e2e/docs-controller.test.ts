import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { runCli, startAgent } from '../lab/agent.ts';
import { startController } from '../lab/controller.ts';
import { startNode } from '../lab/node.ts';
import { labObstacle, requireLab } from '../lab/requires.ts';
import { allPages, ROOT } from '../unit/docs/pages.ts';

/** The runbook's blocks that are marked `run: controller`, in their order in one shell, as a responder types them. */

const blocks = (await allPages()).flatMap((page) => page.blocks).filter(({ comment }) => comment === 'run: controller');
/** What a reader is to see, in this order. */
const SHOWN = [
  /prod\/lab-node +connected/,
  /shop\/web-0\/app +running/,
  /IR-2031/,
  /^state +complete$/m,
  /^reason +GuardDuty finding 1ab2c3$/m,
  /outcome +complete/,
  /pod isolated, role shop-web revoked, lab-node cordoned/,
  /entries, unaltered and in their order/,
  /closed/,
];

const stack = new AsyncDisposableStack();
let folder: string;
let environment: NodeJS.ProcessEnv;

beforeAll(async () => {
  if (labObstacle() !== undefined) return;
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-docs-controller-'));
  stack.defer(() => rmSync(folder, { recursive: true, force: true }));
  mkdirSync(path.join(folder, 'bin'));
  symlinkSync(path.join(ROOT, 'cli/main.ts'), path.join(folder, 'bin/exhibit'));
  const controller = stack.use(await startController());
  const node = stack.use(await startNode());
  const section = await controller.agentSection('prod', node.hostname);
  stack.use(await startAgent(node, { config: { cluster: 'prod', controller: section } }));
  await node.runPod({ namespace: 'shop', name: 'web-0', labels: { app: 'web' }, containers: [{ name: 'app' }] });
  const { certFile, keyFile } = await controller.pki.operator('ada');
  const asked = {
    EXHIBIT_CONTROLLER: controller.api,
    EXHIBIT_CA: controller.pki.caFile('controller'),
    EXHIBIT_CERT: certFile,
    EXHIBIT_KEY: keyFile,
  };
  environment = {
    ...asked,
    PATH: `${folder}/bin:${path.dirname(process.execPath)}:${process.env.PATH}`,
    HOME: folder,
    ...{ CASE: 'IR-2031', NS: 'shop', POD: 'web-0', NODE: node.hostname },
  };
}, 120_000);

afterAll(async () => stack.disposeAsync());

test('the runbook can be followed at a controller, from the case to its end', async (context) => {
  requireLab(context);
  const connected = async () => (await runCli(['nodes', '--connected', '--json'], environment)).stdout;
  await expect.poll(connected, { timeout: 60_000, interval: 250 }).toContain('"connected": true');
  expect(blocks.length).toBeGreaterThan(5);
  const text = blocks.map((block) => block.text).join('\n');
  const ran = spawnSync('bash', ['-eux', '-c', text], { cwd: folder, env: environment, encoding: 'utf8' });
  expect(ran.status, `${ran.stdout}${ran.stderr}`).toBe(0);
  let rest = ran.stdout;
  for (const shown of SHOWN) {
    expect(rest).toMatch(shown);
    rest = rest.slice(rest.search(shown));
  }
});
