/** The controller's domain on a real SQLite store, with agents that answer from memory. */
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Logger, pino } from 'pino';
import { openLogLevels } from '../../../agent/log-level.ts';
import type { Api, CallContext } from '../../../controller/api/api.ts';
import { openApi } from '../../../controller/api/service.ts';
import { type Denials, openDenials } from '../../../controller/custody/denials.ts';
import type { CaptureRules, Domain } from '../../../controller/domain.ts';
import type { Caller, Grant, RateLimit, Role } from '../../../controller/identity/identity.ts';
import type { AgentLinks, Answer } from '../../../controller/link/link.ts';
import type { Lookups } from '../../../controller/link/lookups.ts';
import { openStore } from '../../../controller/store/open.ts';
import type { NodeName, NodeRow } from '../../../controller/store/store.ts';
import { matchesAny } from '../../../evidence/wildcard.ts';
import type { CreateCaptureRequest__Output } from '../../../proto/gen/exhibit/controller/v1/CreateCaptureRequest.ts';
import type { Container__Output } from '../../../proto/gen/exhibit/v1/Container.ts';

export const T0 = Date.UTC(2026, 10, 28, 12);

export interface LabDomain extends AsyncDisposable {
  readonly domain: Domain & { readonly denials: Denials };
  readonly api: Api;
  readonly agents: FakeAgents;
  /** What `commands` on the bus named, in order. */
  readonly woken: readonly string[];
  readonly clock: { nowMs: number };
}

export interface FakeAgents {
  connected: AgentLinks['connected'];
  lookup: Lookups['lookup'];
  /** Nodes that were asked, in the order of their answers. */
  readonly asked: string[];
  /** Silent ones that were let go of. */
  readonly letGo: string[];
  /** `silent`: answers never; a text: could not, and why. */
  set(name: NodeName, is: readonly Container__Output[] | 'silent' | { readonly reason: string }): void;
}

export const container = (
  namespace: string,
  pod: string,
  name: string,
  more: Partial<Container__Output> = {},
): Container__Output => ({
  id: Buffer.from(`${namespace}/${pod}/${name}`).toString('hex').padEnd(64, '0').slice(-64),
  ...{ name, namespace, pod },
  image: 'registry.local/app:1',
  state: 'running',
  createdAt: '2026-11-28T11:00:00Z',
  labels: { app: pod.replace(/-\d+$/, '') },
  ...more,
});

export const grant = (role: Role, clusters = ['*'], namespaces = ['*']): Grant => ({ role, clusters, namespaces });

export const caller = (name: string, ...grants: readonly Grant[]): Caller => ({ name, by: 'certificate', grants });

export const context = (who: Caller, signal = new AbortController().signal): CallContext => ({ caller: who, signal });

export const admin = caller('ada', grant('admin'));

export const createRequest = (given: Partial<CreateCaptureRequest__Output>): CreateCaptureRequest__Output => ({
  requestId: '',
  selector: null,
  clusters: [],
  node: '',
  namespace: '',
  artifacts: [],
  consistency: '',
  scope: '',
  sinks: [],
  caseId: '',
  reason: '',
  exhibitNumber: '',
  acquirer: '',
  maxTargets: 0,
  dryRun: false,
  force: false,
  ...given,
});

export const podRequest = (namespace: string, pod: string, more: Partial<CreateCaptureRequest__Output> = {}) =>
  createRequest({ selector: { pod: { namespace, pod, container: '' } }, ...more });

export const labelRequest = (labels: Record<string, string>, more: Partial<CreateCaptureRequest__Output> = {}) =>
  createRequest({ selector: { labels: { labels, container: '' } }, ...more });

function fakeAgents(): FakeAgents {
  const agents = new Map<
    string,
    { name: NodeName; is: readonly Container__Output[] | 'silent' | { reason: string } }
  >();
  const asked: string[] = [];
  const letGo: string[] = [];
  return {
    asked,
    letGo,
    set: (name, is) => void agents.set(`${name.cluster}/${name.node}`, { name, is }),
    connected: () => [...agents.values()].map(({ name }) => name),
    async *lookup(wanted, _question, signal): AsyncIterable<Answer> {
      const mine = [...agents.values()].filter(
        ({ name: { cluster, node } }) =>
          matchesAny(wanted.clusters, cluster) && (wanted.node === '' || wanted.node === node),
      );
      for (const { name, is } of mine.filter((one) => one.is !== 'silent')) {
        asked.push(`${name.cluster}/${name.node}`);
        await sleep(0);
        if (Array.isArray(is)) yield { kind: 'found', node: name, containers: is as Container__Output[] };
        else yield { kind: 'unreached', node: name, reason: (is as { reason: string }).reason };
      }
      for (const { name } of mine.filter((one) => one.is === 'silent')) {
        asked.push(`${name.cluster}/${name.node}`);
        if (!signal.aborted) await once(signal, 'abort');
        letGo.push(`${name.cluster}/${name.node}`);
        throw signal.reason;
      }
    },
  };
}

export const nodeRow = (cluster: string, node: string, more: Partial<NodeRow> = {}): NodeRow => ({
  ...{ cluster, node },
  sessionId: 's1',
  replicaId: 'r1',
  connectedAtMs: T0,
  lastSeenMs: T0,
  agentVersion: '0.1.0',
  bootId: 'b',
  runtimeName: 'containerd',
  runtimeVersion: '2.1.9',
  artifacts: ['memory'],
  sinks: ['default'],
  clockAheadMs: 0,
  running: 0,
  waiting: 0,
  pod: '',
  ...more,
});

export async function labDomain(
  options: { readonly rules?: Partial<CaptureRules>; readonly rateLimit?: RateLimit; readonly log?: Logger } = {},
): Promise<LabDomain> {
  const folder = await mkdtemp(path.join(tmpdir(), 'exhibit-domain-'));
  const log = options.log ?? pino({ level: 'silent' });
  const clock = { nowMs: T0 };
  const now = () => clock.nowMs;
  const store = await openStore({ url: `sqlite:${folder}/controller.db`, durability: 'normal' }, { log, now });
  const agents = fakeAgents();
  const denials = openDenials({ store, now, log });
  const woken: string[] = [];
  store.bus.subscribe('commands', (name) => woken.push(name));
  const rules = { approvals: [], expiresMs: 600_000, ...options.rules };
  const domain = {
    store,
    links: agents,
    lookups: agents,
    denials,
    rules,
    now,
    version: '9.9.9',
    levels: openLogLevels(log, now),
    log,
  };
  return {
    ...{ domain, agents, woken, clock },
    api: openApi({ ...domain, rateLimit: options.rateLimit ?? { take: () => undefined } }),
    async [Symbol.asyncDispose]() {
      await denials[Symbol.asyncDispose]();
      await store[Symbol.asyncDispose]();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** The code and the words of what fails. */
export async function failure(work: Promise<unknown>): Promise<{ code: unknown; message: string }> {
  return await work.then(
    () => {
      throw new Error('it did not fail');
    },
    (error: unknown) => ({
      code: error instanceof Error && 'code' in error ? error.code : undefined,
      message: error instanceof Error ? error.message : String(error),
    }),
  );
}
