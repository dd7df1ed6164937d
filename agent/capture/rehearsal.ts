import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Logger, pino } from 'pino';
import { v7 as uuidv7 } from 'uuid';
import { explain } from '../../evidence/error.ts';
import { sharesPids } from '../host/cgroup.ts';
import { leastRoomBytes, type MemoryRoom } from '../host/memory-room.ts';
import { asPid, type Runtime, type Target } from '../runtime/runtime.ts';
import type { Sink } from '../sink/sink.ts';
import type { Vault } from '../sink/vault.ts';
import { admitAll } from './admission.ts';
import { type CaptureParts, captureExecutor } from './capture.ts';
import { createChain } from './chain.ts';
import { openDelivery } from './delivery.ts';

/**
 * Goes once through what the first second of a capture needs, so that the first capture of an agent does not pay for it: the
 * runtime's gRPC messages are compiled and its channel is open, each S3 has been reached, and a reader process has left its
 * compiled code for the next. Nothing of it is evidence: the target is the agent itself, the sink is nowhere, nothing is
 * signed and no journal knows of it.
 */
export interface RehearsalParts
  extends Pick<
    CaptureParts,
    'config' | 'host' | 'collectors' | 'runtimes' | 'sinks' | 'encrypt' | 'vault' | 'version'
  > {
  readonly log: Logger;
  /** What memory there is, asked before it begins. */
  readonly room?: () => Promise<MemoryRoom>;
  /** What else of the agent starts late. */
  readonly more?: Readonly<Record<string, (signal: AbortSignal) => Promise<void>>>;
}

/** Larger than what the vault leaves to Node's own cipher (vault.ts). */
const VAULT_BYTES = 1024 * 1024;
const VAULT_FILE = 'rehearsal';

/**
 * At its height it takes 110 MiB beside the agent, the programs that it starts included (docs/bench.md): with less the kernel would
 * end the agent, which would begin anew, and end again.
 */
export const REHEARSAL_BYTES = 160 * 1024 * 1024;

/** Whoever waited for the agent to be there asks at once, and is not to wait for this. */
const REST_MS = 500;

/** Rehearses in a moment, unless `end` is aborted before; disposal waits for what is under way. */
export function startRehearsal(parts: RehearsalParts, end: AbortController): AsyncDisposable {
  const rehearsed = sleep(REST_MS, undefined, { signal: end.signal, ref: false }).then(
    () => rehearse(parts, end.signal),
    () => undefined,
  );
  return {
    async [Symbol.asyncDispose]() {
      end.abort(new Error('the agent is stopping'));
      await rehearsed;
    },
  };
}

/** Never fails: what does not work is worth a line in the log, and the next capture says it better. */
export async function rehearse(parts: RehearsalParts, signal: AbortSignal): Promise<void> {
  const steps: Readonly<Record<string, () => Promise<void>>> = {
    runtime: () => resolveOne(parts.runtimes, signal),
    sinks: async () => void (await Promise.all(parts.sinks.map(({ sink }) => sink.connect?.(signal)))),
    vault: () => passThrough(parts.vault),
    capture: () => captureSelf(parts, signal),
    ...Object.fromEntries(Object.entries(parts.more ?? {}).map(([name, step]) => [name, () => step(signal)])),
  };
  const room = await parts.room?.();
  if (room !== undefined && leastRoomBytes(room) < REHEARSAL_BYTES) {
    parts.log.info(
      { roomBytes: leastRoomBytes(room), neededBytes: REHEARSAL_BYTES },
      'not rehearsed for want of memory',
    );
    return;
  }
  const begin = performance.now();
  for (const [step, take] of Object.entries(steps)) {
    if (signal.aborted) return;
    await take().catch((error: unknown) => {
      if (!signal.aborted) parts.log.warn({ step, error: explain(error) }, 'rehearsal failed');
    });
  }
  if (!signal.aborted) parts.log.info({ wallMs: Math.round(performance.now() - begin) }, 'rehearsed');
}

/** Asks about one container all that a capture would ask. */
async function resolveOne(runtimes: readonly Runtime[], signal: AbortSignal): Promise<void> {
  for (const runtime of runtimes) {
    const running = (await runtime.list(signal)).find(({ state }) => state === 'running');
    if (running !== undefined) await runtime.resolve({ kind: 'container', id: running.id }, signal);
  }
}

async function passThrough(vault: Vault): Promise<void> {
  try {
    await vault.write(VAULT_FILE, randomBytes(VAULT_BYTES));
  } finally {
    await vault.remove(VAULT_FILE);
  }
}

async function captureSelf(parts: RehearsalParts, signal: AbortSignal): Promise<void> {
  // In another pid namespace the agent's number is somebody else's.
  if (!(await sharesPids(parts.host))) return;
  const log = pino({ enabled: false });
  const sinks = [{ name: 'nowhere', sink: NOWHERE }];
  const sealer = { keyId: '', seal: async () => ({ envelope: new Uint8Array(), notes: [] }) };
  const chain = createChain({ vault: FORGETFUL, log });
  const { encrypt, version } = parts;
  const now = Date.now;
  await using delivery = openDelivery({
    ...{ sinks, sealer, encrypt, chain, version, now, log },
    onDelivered: async () => undefined,
  });
  const execute = captureExecutor({
    ...parts,
    ...{ sinks, sealer, delivery, now, log },
    vault: FORGETFUL,
    admission: admitAll(parts.config),
    runtimes: [runtimeOfSelf()],
    startFreezer: () => Promise.reject(new Error('nothing is frozen in a rehearsal')),
  });
  const request = {
    captureId: '',
    selector: `pid:${process.pid}`,
    artifacts: ['processes', 'network'],
    caseId: '',
    reason: '',
    consistency: 'live',
    scope: 'container',
    sinks: ['nowhere'],
    requester: { trigger: 'rehearsal', identity: 'the agent' },
  } as const;
  await execute(uuidv7(), request, {
    signal,
    emit: () => undefined,
    frozen: async () => undefined,
    dumping: async () => undefined,
    waiting: async () => undefined,
  });
}

function runtimeOfSelf(): Runtime {
  const pid = asPid(process.pid);
  const target: Target = {
    record: {
      kind: 'process-tree',
      runtime: 'host',
      id: `${pid}`,
      name: 'exhibit',
      labels: {},
      initPid: pid,
      pids: [pid],
    },
    freeze: undefined,
    rootfs: undefined,
    mounts: [],
    logPath: undefined,
    documents: [],
    notes: [],
    companions: [],
  };
  return {
    kind: 'host',
    identify: async () => ({ name: 'linux', version: '' }),
    list: async () => [],
    resolve: async () => target,
    pids: async () => [pid],
    rungs: [],
    pauseOf: () => undefined,
    resumeIfPaused: async () => false,
    async [Symbol.asyncDispose]() {},
  };
}

/** Takes everything and keeps nothing. */
const NOWHERE: Sink = {
  url: 'nowhere:',
  check: async () => undefined,
  rights: async () => ({ list: 'unknown', read: 'unknown', overwrites: false, retention: 'unknown' }),
  open: async () => ({
    write: async () => undefined,
    commit: async () => 'stored',
    async [Symbol.asyncDispose]() {},
  }),
  settle: async () => ({ kind: 'stored' }),
  forget: async () => undefined,
  describe: () => ({ url: 'nowhere:' }),
  async [Symbol.asyncDispose]() {},
};

const FORGETFUL: Vault = {
  folder: '',
  inMemory: true,
  usedBytes: 0,
  write: async () => undefined,
  read: async () => undefined,
  append: async () => undefined,
  records: async () => [],
  list: async () => [],
  remove: async () => undefined,
};
