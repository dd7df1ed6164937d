import type { Registry } from 'prom-client';
import { processMetrics } from '../../agent/metrics/process.ts';
import { OUTCOMES } from '../alerts/intake.ts';
import type { AgentLinks } from '../link/link.ts';
import type { NewAudit, Store } from '../store/store.ts';
import { OPEN_STATES } from '../store/store.ts';
import type { OnCall } from './api.ts';
import type { StoreEvents } from './store.ts';

/**
 * What the controller tells Prometheus: docs/metrics.md has every metric, and a test holds it to this. Counted in one place, by standing
 * in front of the store, the calls and the listeners.
 */
export interface ControllerMetrics extends Disposable {
  readonly storeEvents: StoreEvents;
  readonly onCall: OnCall;
  onUnauthenticated(code: string): void;
  onStreamRefused(why: string): void;
  onConnectionRefused(listener: string): void;
  watch(sources: ControllerSources): void;
  text(): Promise<{ readonly text: string; readonly contentType: string }>;
  readonly registry: Registry;
}

export interface ControllerSources {
  readonly links: Pick<AgentLinks, 'connected'>;
  readonly store: Pick<Store, 'countOpen'>;
  readonly ready: () => Promise<{ readonly ready: boolean }>;
  readonly listeners: readonly {
    readonly name: string;
    connectionCount(): number;
    certificateNotAfterMs(): number;
    listsNotAfterMs(): number | undefined;
  }[];
}

/** From SQLite on a quiet disk to a database that is about to be given up. */
const STORE_BUCKETS_S = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
const CALL_BUCKETS_S = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];
/** From a stream that is there to a node that comes back just before its command expires. */
const DISPATCH_BUCKETS_S = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600];
/** Clusters that are told apart; what certificates name beyond them is `other`. */
const MAX_CLUSTERS = 100;

type Prom = typeof import('prom-client');

/** The library is loaded here alone: a controller without the port does without it. */
export async function openControllerMetrics(
  build: { readonly version: string },
  now: () => number = Date.now,
): Promise<ControllerMetrics> {
  const prom = await import('prom-client');
  const registry = new prom.Registry();
  const parts = counters(prom, registry);
  processMetrics(prom, registry, build);
  return {
    registry,
    storeEvents: storeEvents(parts),
    onCall(call, code, seconds) {
      parts.requests.inc({ call, code });
      // A watch lasts as long as its capture.
      if (call !== 'WatchCapture') parts.requestSeconds.observe({ call }, seconds);
    },
    onUnauthenticated: (code) => parts.unauthenticated.inc({ code }),
    onStreamRefused: (reason) => parts.streamsRefused.inc({ reason }),
    onConnectionRefused: (listener) => parts.connectionsRefused.inc({ listener }),
    watch: (sources) => gauges(prom, [registry], sources, now),
    text: async () => ({ text: await registry.metrics(), contentType: registry.contentType }),
    [Symbol.dispose]: () => registry.clear(),
  };
}

function counters({ Counter, Histogram }: Prom, registry: Registry) {
  const registers = [registry];
  const streamsRefused = new Counter({
    name: 'exhibit_controller_streams_refused_total',
    help: 'Streams of agents that were refused, by reason: unauthenticated, impostor, protocol, malformed',
    labelNames: ['reason'],
    registers,
  });
  for (const reason of ['unauthenticated', 'impostor', 'protocol', 'malformed']) streamsRefused.inc({ reason }, 0);
  const alerts = new Counter({
    name: 'exhibit_controller_alerts_total',
    help: 'Targets of alerts by what became of them: fired, duplicate, over-budget, flooded and others of docs/alerts.md',
    labelNames: ['outcome'],
    registers,
  });
  for (const outcome of ['fired', 'flooded', ...OUTCOMES.filter((one) => one !== 'captured' && one !== 'pending')])
    alerts.inc({ outcome }, 0);
  return {
    alerts,
    streamsRefused,
    connectionsRefused: new Counter({
      name: 'exhibit_controller_connections_refused_total',
      help: 'TLS connections that were refused, by listener: no good certificate, no handshake, too many',
      labelNames: ['listener'],
      registers,
    }),
    requests: new Counter({
      name: 'exhibit_controller_requests_total',
      help: 'Calls of the API over gRPC and HTTP, by call and code: ok or the code of the error, such as rate-limited',
      labelNames: ['call', 'code'],
      registers,
    }),
    requestSeconds: new Histogram({
      name: 'exhibit_controller_request_seconds',
      help: 'How long calls of the API took, by call; without WatchCapture',
      labelNames: ['call'],
      buckets: CALL_BUCKETS_S,
      registers,
    }),
    unauthenticated: new Counter({
      name: 'exhibit_controller_unauthenticated_total',
      help: 'Callers of the API that were not let in, by code',
      labelNames: ['code'],
      registers,
    }),
    captures: new Counter({
      name: 'exhibit_controller_captures_total',
      help: 'Captures that came into a state through this replica, by state',
      labelNames: ['state'],
      registers,
    }),
    dispatchSeconds: new Histogram({
      name: 'exhibit_controller_dispatch_seconds',
      help: 'Of a capture: sent, from when it was asked for or approved; accepted, from when it was sent until its agent began',
      labelNames: ['step'],
      buckets: DISPATCH_BUCKETS_S,
      registers,
    }),
    audit: new Counter({
      name: 'exhibit_controller_audit_entries_total',
      help: 'Entries that this replica wrote into the audit log, by action',
      labelNames: ['action'],
      registers,
    }),
    storeSeconds: new Histogram({
      name: 'exhibit_controller_store_seconds',
      help: 'How long the store took, by call',
      labelNames: ['call'],
      buckets: STORE_BUCKETS_S,
      registers,
    }),
    storeErrors: new Counter({
      name: 'exhibit_controller_store_errors_total',
      help: 'Calls that the store failed at, by call',
      labelNames: ['call'],
      registers,
    }),
  };
}

type Counters = ReturnType<typeof counters>;

function storeEvents(parts: Counters): StoreEvents {
  return {
    done(call, seconds, failed) {
      parts.storeSeconds.observe({ call }, seconds);
      // There from the first call on: a failure is a change of a number that was there.
      parts.storeErrors.inc({ call }, failed ? 1 : 0);
    },
    audited(entries) {
      for (const entry of entries) {
        parts.audit.inc({ action: entry.action });
        const outcome = /^alert\.(.+)$/.exec(entry.action)?.[1];
        if (outcome !== undefined) parts.alerts.inc({ outcome }, timesOf(entry));
      }
    },
    entered: (state, captures) => parts.captures.inc({ state }, captures),
    dispatched: (step, seconds) => parts.dispatchSeconds.observe({ step }, seconds),
  };
}

/** What was the same within a moment is one entry with its count; see alerts/ledger.ts. */
function timesOf({ details: { count } }: NewAudit): number {
  return typeof count === 'number' && count > 0 ? count : 1;
}

function gauges({ Gauge }: Prom, registers: Registry[], sources: ControllerSources, now: () => number): void {
  const { links, store, ready, listeners } = sources;
  new Gauge({
    name: 'exhibit_controller_agents_connected',
    help: 'Agents whose stream this replica holds, by cluster',
    labelNames: ['cluster'],
    registers,
    collect() {
      this.reset();
      for (const [cluster, agents] of byCluster(links.connected())) this.set({ cluster }, agents);
    },
  });
  new Gauge({
    name: 'exhibit_controller_captures_open',
    help: 'Captures that have not ended, by state; of the store, so every replica tells the same',
    labelNames: ['state'],
    registers,
    async collect() {
      // Old numbers would seem to be new ones.
      this.reset();
      const counts = await store.countOpen().catch(() => undefined);
      if (counts !== undefined) for (const state of OPEN_STATES) this.set({ state }, counts.get(state) ?? 0);
    },
  });
  new Gauge({
    name: 'exhibit_controller_ready',
    help: '1 when it listens and its store answers, as /readyz says',
    registers,
    async collect() {
      this.set((await ready()).ready ? 1 : 0);
    },
  });
  new Gauge({
    name: 'exhibit_controller_connections',
    help: 'TLS connections, by listener',
    labelNames: ['listener'],
    registers,
    collect() {
      for (const { name: listener, connectionCount } of listeners) this.set({ listener }, connectionCount());
    },
  });
  new Gauge({
    name: 'exhibit_controller_certificate_expiry_seconds',
    help: 'How long the certificate that a listener shows is still valid; negative once it has expired',
    labelNames: ['listener'],
    registers,
    collect() {
      for (const { name: listener, certificateNotAfterMs } of listeners)
        this.set({ listener }, (certificateNotAfterMs() - now()) / 1000);
    },
  });
  new Gauge({
    name: 'exhibit_controller_revocation_list_expiry_seconds',
    help: 'How long until the first revocation list of a listener ends, after which nobody of its authority is let in; not there without lists',
    labelNames: ['listener'],
    registers,
    collect() {
      this.reset();
      for (const { name: listener, listsNotAfterMs } of listeners) {
        const endMs = listsNotAfterMs();
        if (endMs !== undefined) this.set({ listener }, (endMs - now()) / 1000);
      }
    },
  });
}

function byCluster(nodes: readonly { readonly cluster: string }[]): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const { cluster } of nodes) {
    const known = counts.has(cluster) || counts.size < MAX_CLUSTERS ? cluster : 'other';
    counts.set(known, (counts.get(known) ?? 0) + 1);
  }
  return counts;
}
