/** Both ends in this process, over real TLS and a SQLite file: a controller that can be killed, and nodes whose agents can. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Logger, pino } from 'pino';
import { v7 as uuidv7 } from 'uuid';
import {
  type CaptureRequest,
  type Captures,
  createCaptures,
  type Execute,
} from '../../../../agent/capture/captures.ts';
import { type Journal, openJournal } from '../../../../agent/capture/journal.ts';
import { recover } from '../../../../agent/capture/recover.ts';
import type { Runtime } from '../../../../agent/runtime/runtime.ts';
import { openControllerTrigger } from '../../../../agent/trigger/controller.ts';
import { agentIdentity } from '../../../../controller/identity/certificates.ts';
import { type LinkOptions, type OpenLinks, openAgentLinks } from '../../../../controller/link/links.ts';
import { openStore } from '../../../../controller/store/open.ts';
import { type CaptureRow, type CaptureState, END_STATES, type Store } from '../../../../controller/store/store.ts';
import { type Listener, openListener } from '../../../../controller/tls/tls.ts';
import { ExhibitError } from '../../../../evidence/error.ts';
import { type LabPki, labPki } from '../../../lab/pki.ts';
import { type MessageProxy, startMessageProxy } from './message-proxy.ts';

export const quiet = pino({ level: 'silent' });

export interface LabController {
  readonly store: Store;
  readonly links: OpenLinks;
  readonly listener: Listener;
  /** As SIGKILL leaves it: connections gone, nothing said, nothing more written. */
  kill(): Promise<void>;
}

export interface ControllerLab extends AsyncDisposable {
  readonly pki: LabPki;
  readonly folder: string;
  /** The one that runs. */
  readonly controller: LabController;
  restart(): Promise<LabController>;
  /** Another process of the same store; of PostgreSQL, since SQLite has one. */
  replica(): Promise<LabController>;
  /** `via`: the replica that it dials; the one that runs unless told. */
  node(name: string, options?: Partial<NodeOptions & { via: LabController }>): Promise<LabNode>;
  ask(node: string, more?: Partial<CaptureRow>): Promise<CaptureRow>;
  /** The capture once it is in one of these states; END_STATES unless told. */
  settled(captureId: string, states?: readonly CaptureState[]): Promise<CaptureRow>;
}

export interface LabOptions {
  readonly decorate?: (store: Store) => Store;
  readonly link?: Partial<LinkOptions>;
  readonly log?: Logger;
  /** Of the store; a SQLite file of the lab's own unless told. */
  readonly url?: string;
}

const PATIENCE_MS = 15_000;

export async function controllerLab(options: LabOptions = {}): Promise<ControllerLab> {
  await using stack = new AsyncDisposableStack();
  const pki = stack.use(await labPki());
  const folder = await mkdtemp(join(tmpdir(), 'exhibit-link-'));
  // An agent that was killed may still have a file of its journal open.
  stack.defer(() => rm(folder, { recursive: true, force: true, maxRetries: 5 }));
  const start = () => startController({ pki, folder, options });
  let controller = await start();
  stack.defer(() => controller.kill());
  const nodes = stack.use(new AsyncDisposableStack());
  const owned = stack.move();

  const lab: ControllerLab = {
    pki,
    folder,
    get controller() {
      return controller;
    },
    async restart() {
      await controller.kill();
      controller = await start();
      return controller;
    },
    async replica() {
      const another = await start();
      nodes.defer(() => another.kill());
      return another;
    },
    async node(name, { via, ...more } = {}) {
      const files = await pki.agent('prod', name);
      const proxy = nodes.use(
        await startMessageProxy({
          controllerPort: () => (via ?? controller).listener.port,
          server: pki.server,
          client: files,
          clientCaFile: pki.caFile('agents'),
          serverCaFile: pki.caFile('controller'),
        }),
      );
      const stateDir = join(folder, name);
      const node = new LabNode({ name, files, proxy, stateDir, pki, log: options.log ?? quiet, ...more });
      nodes.defer(() => node.kill());
      await node.start();
      return node;
    },
    async ask(node, more = {}) {
      const row = captureOf(node, more);
      await controller.store.addCaptures({ requestId: row.requestId, requestKey: 'k', captures: [row] }, []);
      await controller.store.bus.publish('commands', `prod/${node}`);
      return row;
    },
    async settled(captureId, states = END_STATES) {
      const until = Date.now() + PATIENCE_MS;
      for (;;) {
        const row = await controller.store.capture(captureId).catch(() => undefined);
        if (row !== undefined && states.includes(row.state)) return row;
        if (Date.now() > until) throw new Error(`capture ${captureId} is still ${row?.state}`);
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
  return lab;
}

async function startController({
  pki,
  folder,
  options,
}: {
  pki: LabPki;
  folder: string;
  options: LabOptions;
}): Promise<LabController> {
  const log = options.log ?? quiet;
  const opened = await openStore(
    { url: options.url ?? `sqlite:${join(folder, 'controller.db')}`, durability: 'normal' },
    { log, now: Date.now },
  );
  const live = switchable(options.decorate?.(opened) ?? opened);
  const links = openAgentLinks({
    store: live.store,
    identify: (certificate) => agentIdentity(certificate ?? { raw: Buffer.alloc(0) }, pki.trustDomain),
    version: 'test',
    now: Date.now,
    log,
    ...options.link,
  });
  const handlers = { h2: (socket: Parameters<OpenLinks['inject']>[0]) => links.inject(socket) };
  const listener = await openListener({ ...pki.listener('agents'), handlers }, quiet);
  let dead = false;
  return {
    store: live.store,
    links,
    listener,
    async kill() {
      if (dead) return;
      dead = true;
      live.off();
      await listener[Symbol.asyncDispose]();
      await links[Symbol.asyncDispose]();
      await opened[Symbol.asyncDispose]();
    },
  };
}

/** A store whose process is gone: every call fails, and none reaches the file. */
function switchable(inner: Store): { readonly store: Store; off(): void } {
  let off = false;
  const store = new Proxy(inner, {
    get(target, name) {
      const value = Reflect.get(target, name);
      if (typeof value !== 'function') return value;
      return (...args: unknown[]) =>
        off
          ? Promise.reject(new ExhibitError('store-failed', 'the controller was killed'))
          : Reflect.apply(value, target, args);
    },
  });
  const turnOff = () => {
    off = true;
  };
  return { store, off: turnOff };
}

export interface NodeOptions {
  readonly name: string;
  readonly files: { readonly certFile: string; readonly keyFile: string };
  readonly proxy: MessageProxy;
  readonly stateDir: string;
  readonly pki: LabPki;
  readonly log: Logger;
  readonly execute: Execute;
  readonly runtime: Runtime;
}

/** A node that keeps its journal when its agent is killed. */
export class LabNode {
  readonly options: NodeOptions;
  /** Captures that began, by id: what must never be more than one. */
  readonly begun: string[] = [];
  /** Captures that would have begun a second time, had the sink not had their first object. */
  readonly doubled: string[] = [];
  captures!: Captures;
  journal!: Journal;
  #kill: () => Promise<void> = async () => undefined;

  constructor(options: Omit<NodeOptions, 'execute' | 'runtime'> & Partial<NodeOptions>) {
    this.options = { execute: quickCapture, runtime: fakeRuntime(), ...options };
  }

  get proxy(): MessageProxy {
    return this.options.proxy;
  }

  async start(): Promise<void> {
    const { stateDir, pki, proxy, log, files, name, runtime } = this.options;
    const journal = await openJournal(stateDir, () => undefined);
    await recover(journal, { now: Date.now, log, procRoot: '/proc' });
    let dead = false;
    // What a dead process would still write.
    const guarded: Journal = { ...journal, put: async (entry) => (dead ? undefined : journal.put(entry)) };
    const execute: Execute = (captureId, request, hooks) =>
      this.options.execute(captureId, request, {
        ...hooks,
        emit: (event) => {
          if (dead) return;
          if (event.kind === 'accepted') this.#toSink(captureId);
          hooks.emit(event);
        },
      });
    this.journal = guarded;
    this.captures = createCaptures({ journal: guarded, execute, now: Date.now, log });
    const trigger = openControllerTrigger({
      config: {
        address: `127.0.0.1:${proxy.port}`,
        caFile: pki.caFile('controller'),
        ...files,
        serverName: 'localhost',
        reconnect: { firstMs: 10, maxMs: 50 },
      },
      captures: this.captures,
      runtimes: [runtime],
      defaults: { artifacts: ['memory'], consistency: 'frozen', scope: 'container' },
      self: {
        cluster: 'prod',
        node: name,
        agentVersion: 'test',
        bootId: 'b',
        artifacts: ['memory'],
        sinks: [],
        pod: '',
      },
      sinks: ['default'],
      problemOf: () => undefined,
      now: Date.now,
      random: Math.random,
      log,
    });
    this.#kill = async () => {
      dead = true;
      this.#kill = async () => undefined;
      proxy.cutNow();
      await trigger[Symbol.asyncDispose]();
      await this.captures.drain(0);
    };
  }

  /** As with a real one, whose first object in the sink decides; the sink outlives the node. */
  #toSink(captureId: string): void {
    if (this.begun.includes(captureId)) {
      this.doubled.push(captureId);
      throw new ExhibitError('sink-exists', 'the sink has a bundle of this id');
    }
    this.begun.push(captureId);
  }

  /** Its process, as SIGKILL ends it; the journal stays. */
  kill(): Promise<void> {
    return this.#kill();
  }

  /** The node's memory, with the journal in it. */
  async reboot(): Promise<void> {
    await this.kill();
    await rm(this.options.stateDir, { recursive: true, force: true, maxRetries: 5 });
    await this.start();
  }
}

export const accepted = {
  kind: 'accepted',
  target: 'shop/web-0/web',
  bundleUrl: 'file:///evidence/x',
  stages: ['memory', 'seal'],
  namespace: 'shop',
} as const;

export const memoryStage = {
  ...{ stage: 'memory', status: 'captured', reason: '', storedBytes: 5, wallMs: 1, pauseMs: 0.5, gapCount: 0 },
};

/** A capture of a moment. */
export const quickCapture: Execute = async (_id, _request, { emit }) => {
  emit(accepted);
  emit({ kind: 'stage-started', stage: 'memory' });
  await new Promise((resolve) => setImmediate(resolve));
  emit({ kind: 'stage-ended', result: memoryStage });
  return { state: 'complete' };
};

/** One that ends when told; it is cancelled as a real one is. */
export function heldCapture(): { readonly execute: Execute; readonly begun: Promise<void>; release(): void } {
  const gate = Promise.withResolvers<void>();
  const begun = Promise.withResolvers<void>();
  const execute: Execute = async (_id, _request, { emit, signal }) => {
    emit(accepted);
    begun.resolve();
    const cancelled = new Promise<never>((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
    await Promise.race([gate.promise, cancelled]);
    return { state: 'complete' };
  };
  return { execute, begun: begun.promise, release: () => gate.resolve() };
}

export function captureOf(node: string, more: Partial<CaptureRow> = {}): CaptureRow {
  const captureId = more.captureId ?? uuidv7();
  const nowMs = Date.now();
  return {
    ...{ cluster: 'prod', node, captureId, requestId: uuidv7(), namespace: 'shop', selector: 'shop/web-0' },
    ...{ state: 'queued', caseId: '', reason: 'alert', artifacts: ['memory'], requestedBy: 'alice', trigger: 'api' },
    ...{ createdAtMs: nowMs, sentAtMs: 0, acceptedAtMs: 0, endedAtMs: 0, expiresAtMs: nowMs + 600_000, error: '' },
    ...{ approvals: [], cancelRequested: false, told: null, waits: false },
    command: {
      ...{ captureId, artifacts: ['memory'], caseId: '', reason: 'alert', consistency: '', scope: '', sinks: [] },
      ...{ exhibitNumber: '', acquirer: '', force: false },
      selector: { pod: { namespace: 'shop', pod: 'web-0', container: '' }, by: 'pod' },
    },
    ...more,
  };
}

export function fakeRuntime(containers: Awaited<ReturnType<Runtime['list']>> = []): Runtime {
  return {
    kind: 'cri',
    identify: async () => ({ name: 'containerd', version: '2.1' }),
    list: async () => [...containers],
    resolve: async () => {
      throw new ExhibitError('target-not-found', 'there is none');
    },
    pids: async () => [],
    rungs: [],
    pauseOf: () => undefined,
    resumeIfPaused: async () => false,
    [Symbol.asyncDispose]: async () => undefined,
  };
}

/** A request of another trigger on the node. */
export const ofSchedule = (): CaptureRequest => ({
  ...{ captureId: '', selector: 'shop/web-0', artifacts: ['processes'], caseId: '', reason: 'nightly' },
  ...{ consistency: 'live', scope: 'container', requester: { trigger: 'schedule', identity: 'baseline' } },
});

export async function until(what: () => boolean | Promise<boolean>, patienceMs = PATIENCE_MS): Promise<void> {
  const end = Date.now() + patienceMs;
  while (!(await what())) {
    if (Date.now() > end) throw new Error(`not within ${patienceMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
