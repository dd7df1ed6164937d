/**
 * `npm run demo`: a real containerd with a container that was broken into, captured, verified and explained. Without root
 * it captures a process tree of its own through the `host` runtime.
 *
 *   npm run demo -- [--out DIR]
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { startAgent } from '../test/lab/agent.ts';
import { startNode } from '../test/lab/node.ts';
import { labObstacle } from '../test/lab/requires.ts';
import { compromisedPod } from '../test/lab/victim.ts';
import { openEvidence } from './findings.ts';
import { type DemoKey, makeKey } from './key.ts';
import { startLocalVictim } from './process.ts';
import { type Hunch, report } from './report.ts';

const CLI = fileURLToPath(new URL('../cli/main.ts', import.meta.url));

const say = (line: string): void => void process.stdout.write(`${line}\n`);
const begin = performance.now();
const stage = (line: string): void => say(`[${((performance.now() - begin) / 1000).toFixed(1).padStart(5)} s] ${line}`);

/** Runs `exhibit ARGV` as the user would see it; answers its exit code and what it printed on stdout. */
async function exhibit(socket: string, ...argv: string[]): Promise<{ code: number; stdout: string }> {
  say(`\n$ exhibit ${argv.map((word) => (/\s/.test(word) ? `'${word}'` : word)).join(' ')}`);
  const child = spawn(process.execPath, [CLI, ...argv], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, EXHIBIT_SOCKET: socket },
  });
  const out: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => {
    out.push(chunk);
    process.stdout.write(chunk);
  });
  const [code] = (await once(child, 'close')) as [number | null];
  return { code: code ?? 1, stdout: Buffer.concat(out).toString() };
}

interface Stage {
  /** The agent's socket. */
  readonly socket: string;
  readonly target: string;
  readonly key: DemoKey;
  readonly hunch: Hunch;
}

const CASE = ['--case', 'DEMO-1', '--exhibit', 'DEMO-1/1', '--acquirer', 'the demo', '--reason', 'an alert said so'];

async function capture(out: string, { socket, target, key, hunch }: Stage): Promise<boolean> {
  const captured = await exhibit(socket, 'capture', target, ...CASE);
  const folder = /^bundle\s+file:\/\/(\S+)/m.exec(captured.stdout)?.[1];
  if (captured.code !== 0 || folder === undefined) return false;
  const verified = await exhibit(socket, 'verify', folder, '--trust', key.publicFile);
  if (verified.code !== 0) return false;
  const page = path.join(path.resolve(out), `${path.basename(folder)}.html`);
  const recorded = await exhibit(socket, 'custody', folder, '--trust', key.publicFile, '--html', page);
  if (recorded.code !== 0) return false;
  say(`\n${await report(folder, await openEvidence(folder), hunch)}`);
  say(`\nThe bundle stays in ${path.resolve(out)}. For the commands above: alias exhibit='${process.execPath} ${CLI}'`);
  return true;
}

/** CRI passes CRIU no option for open connections; a node's own /etc/criu/runc.conf can, as runc documents. */
function allowConnectionsInCheckpoints(hostRoot: string): void {
  mkdirSync(path.join(hostRoot, 'etc/criu'), { recursive: true });
  writeFileSync(path.join(hostRoot, 'etc/criu/runc.conf'), 'tcp-established\n');
}

/** Where evidence goes, and the key that seals it. */
const agentConfig = (out: string, key: DemoKey) => ({
  sink: { url: `file://${path.resolve(out)}` },
  signing: { keyFile: key.privateFile },
});

async function container(out: string, key: DemoKey): Promise<boolean> {
  stage('starting a containerd node in namespaces of its own');
  await using node = await startNode();
  allowConnectionsInCheckpoints(node.hostRoot);
  stage('starting the pod prod/web-0 and breaking into it');
  const victim = await compromisedPod(node, { connection: true, covert: true });
  stage('starting the agent');
  await using agent = await startAgent(node, { config: agentConfig(out, key) });
  const done = await capture(out, { socket: agent.socket, target: 'prod/web-0', key, hunch: victim });
  const alive = await victim.pod.exec(victim.container, ['true']);
  say(alive.code === 0 ? 'The container is still running, as it was.' : 'The container does not answer any more.');
  stage('stopping the agent, the pod and the node');
  return done && alive.code === 0;
}

async function processTree(out: string, key: DemoKey, why: string): Promise<boolean> {
  say(`No container can be shown here: ${why}. The demo captures a process tree of its own instead; checkpoint and`);
  say('writable layer, which belong to containers, are skipped. As root it shows the whole.');
  stage('starting a process tree and breaking into it');
  await using victim = await startLocalVictim();
  stage('starting the agent');
  await using agent = await startAgent(undefined, { config: agentConfig(out, key) });
  const done = await capture(out, { socket: agent.socket, target: `pid:${victim.pid}`, key, hunch: victim });
  stage('stopping the agent and the process tree');
  return done;
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { out: { type: 'string', default: path.join('out', 'demo') } } });
  const obstacle = labObstacle();
  using key = makeKey(values.out);
  const done = obstacle === undefined ? await container(values.out, key) : await processTree(values.out, key, obstacle);
  say(
    done
      ? 'Everything that the demo started has been stopped.'
      : 'The demo did not reach its end; what it started has been stopped.',
  );
  process.exitCode = done ? 0 : 1;
}

try {
  await main();
} catch (error) {
  process.stderr.write(`demo: ${error instanceof Error ? error.message : error}\n`);
  process.exitCode = 1;
}
