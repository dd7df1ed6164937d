/**
 * A controller or two replicas of it, PostgreSQL, two containerd nodes with agents, and an operator: each a host of the lab's
 * network, each of which can be cut off, killed and started again.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { startAgent } from './agent.ts';
import { type LabController, startController } from './controller.ts';
import { type LabNetwork, type NetHost, startNetwork } from './nets.ts';
import { type LabNode, startNode } from './node.ts';
import { type Operator, startOperator } from './operator.ts';
import { type LabPki, labPki } from './pki.ts';
import { type LabPostgres, startPostgres } from './postgres.ts';

type Agent = Awaited<ReturnType<typeof startAgent>>;

/** A process that is killed and started again; `log` is of all of its lives. */
export interface Part<Process> {
  readonly name: string;
  readonly host: NetHost;
  readonly process: Process;
  /** When it was killed, in milliseconds since the epoch. */
  readonly kills: readonly number[];
  kill(): Promise<void>;
  start(): Promise<void>;
  log(): string;
}

export interface AgentPart extends Part<Agent> {
  readonly node: LabNode;
}

export interface CutsLab extends AsyncDisposable {
  readonly replicas: readonly Part<LabController>[];
  readonly agents: readonly AgentPart[];
  readonly postgres: LabPostgres | undefined;
  readonly hosts: readonly NetHost[];
  readonly operator: Operator;
  /** Of the store, as this process reaches it. */
  readonly storeUrl: string;
}

/** As the kubelet does it: what ends at its start is started again. */
const RESTARTS = 20;
const RESTART_PAUSE_MS = 500;

async function untilStarted<T>(start: () => Promise<T>): Promise<T> {
  for (let left = RESTARTS; ; left -= 1) {
    try {
      return await start();
    } catch (error) {
      if (left === 0) throw error;
      await sleep(RESTART_PAUSE_MS);
    }
  }
}

interface Lives {
  log(): string;
  kill(): Promise<void>;
  [Symbol.asyncDispose](): PromiseLike<void>;
}

/** `begin` gets the process before, so that the next one has its folder. */
async function part<Process extends Lives>(
  { name, host }: { name: string; host: NetHost },
  begin: (before?: Process) => Promise<Process>,
): Promise<Part<Process> & AsyncDisposable> {
  let process = await begin();
  const earlier: string[] = [];
  const kills: number[] = [];
  return {
    ...{ name, host, kills },
    get process() {
      return process;
    },
    log: () => [...earlier, process.log()].join('\n'),
    async kill() {
      kills.push(Date.now());
      await process.kill();
    },
    async start() {
      earlier.push(process.log());
      process = await untilStarted(() => begin(process));
    },
    [Symbol.asyncDispose]: async () => await process[Symbol.asyncDispose](),
  };
}

export async function startCutsLab(kind: 'sqlite' | 'postgres'): Promise<CutsLab> {
  await using stack = new AsyncDisposableStack();
  const network = stack.use(await startNetwork());
  const host = (name: string, pid?: number) => network.host(name, pid);
  const names = kind === 'sqlite' ? ['controller'] : ['controller-1', 'controller-2'];
  const controllers = await Promise.all(names.map((name) => host(name)));
  const pki = stack.use(await labPki({ names: controllers.map(({ address }) => address) }));
  const database = kind === 'sqlite' ? undefined : await host('database');
  const postgres = database === undefined ? undefined : stack.use(await startPostgres({ host: database }));
  const url = await postgres?.newDatabase();
  const replicas: (Part<LabController> & AsyncDisposable)[] = [];
  for (const one of controllers) replicas.push(stack.use(await replica(one, pki, url)));
  const agents: (AgentPart & AsyncDisposable)[] = [];
  for (const name of ['node-a', 'node-b']) agents.push(stack.use(await agentOn(name, network, replicas[0])));
  const place = await host('operator');
  const operator = stack.use(await startOperator('ada', place, pki));
  const hosts = [
    ...controllers,
    ...agents.map((one) => one.host),
    place,
    ...(database === undefined ? [] : [database]),
  ];
  const storeUrl =
    postgres === undefined || url === undefined
      ? `sqlite:${replicas[0]?.process.folder}/controller.db`
      : postgres.locally(url);
  const kept = stack.move();
  const dispose = () => kept.disposeAsync();
  return { ...{ replicas, agents, postgres, hosts, operator, storeUrl }, [Symbol.asyncDispose]: dispose };
}

/** Requests are retried much faster than people would. */
const RATE = { write: { perSecond: 20, burst: 200 } };

async function replica(host: NetHost, pki: LabPki, url: string | undefined) {
  const everywhere = [{ role: 'admin', clusters: ['*'], namespaces: ['*'] }];
  const operators = [{ name: 'ada', certificate: 'ada', grants: everywhere }];
  const config = {
    name: host.name,
    identity: { operators, rate: RATE },
    ...(url === undefined ? {} : { store: { url } }),
  };
  return await part<LabController>({ name: host.name, host }, (after) =>
    startController({ host, pki, config, ...(after === undefined ? {} : { after }) }),
  );
}

/** With two pods `prod/NAME-0` and `-1`, labelled `app: web`. */
async function agentOn(hostname: string, network: LabNetwork, replica: Part<LabController> | undefined) {
  if (replica === undefined) throw new Error('no controller to dial');
  const stack = new AsyncDisposableStack();
  const node = stack.use(await startNode({ hostname }));
  const container = { name: 'app', command: ['perl', '-e', 'my $held = "x" x (48 << 20); sleep 3600 while 1'] };
  for (const number of [0, 1])
    await node.runPod({
      ...{ namespace: 'prod', name: `${hostname}-${number}`, labels: { app: 'web' } },
      containers: [container],
    });
  const host = await network.host(hostname, node.initPid);
  const section = await replica.process.agentSection('lab', hostname);
  const config = { controller: { ...section, reconnect: { firstMs: 200, maxMs: 2000 } } };
  const running = stack.use(
    await part<Agent>({ name: hostname, host }, (before) =>
      startAgent(node, { host, config, ...(before === undefined ? {} : { folder: before.folder }) }),
    ),
  );
  const dispose = () => stack.disposeAsync();
  // Not spread: `process` is another one after each start.
  return Object.assign(Object.create(running) as typeof running, { node, [Symbol.asyncDispose]: dispose });
}
