import { createWriteStream, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { pino } from 'pino';
import type { Frozen } from '../../../agent/capture/freeze.ts';
import type { Archive, CollectContext } from '../../../agent/collect/collector.ts';
import { asPid, type Pid, type Runtime, type Target } from '../../../agent/runtime/runtime.ts';
import { type RegionRecord, regionSchema } from '../../../evidence/elfregion.ts';
import type { FreezeRecord, Gap } from '../../../evidence/manifest.ts';

/** A CollectContext that keeps what a collector says and unpacks its archive into a temporary folder. */
export interface FakeContext extends Disposable {
  readonly context: CollectContext;
  readonly gaps: Omit<Gap, 'at'>[];
  readonly notes: string[];
  readonly facts: Map<string, unknown>;
  readonly footprint: { bytes: number; files: number };
  /** Members that were committed, and their size as announced and as it came. */
  readonly members: Map<string, { announced: number; came: number }>;
  readonly pauseMs: () => number;
  file(member: string): string;
  regions(pid: number): RegionRecord[];
}

export interface FakeOptions {
  readonly pids: readonly number[] | (() => readonly number[]);
  readonly consistency?: 'frozen' | 'live';
  readonly bufferBytes?: number;
  readonly deadlineMs?: number;
  readonly signal?: AbortSignal;
  /** Runs when the target stands still, before the collector goes on. */
  readonly onFrozen?: () => void;
  readonly freeze?: () => Promise<Frozen>;
  /** A real target in place of pids of this machine. */
  readonly real?: Pick<CollectContext, 'target' | 'runtime' | 'host'>;
  /** Member bytes are counted, not kept. */
  readonly discard?: boolean;
}

export function fakeContext(options: FakeOptions): FakeContext {
  const folder = mkdtempSync(path.join(tmpdir(), 'exhibit-memory-'));
  const listed = (): Pid[] => [...(typeof options.pids === 'function' ? options.pids() : options.pids)].map(asPid);
  const gaps: Omit<Gap, 'at'>[] = [];
  const notes: string[] = [];
  const facts = new Map<string, unknown>();
  const footprint = { bytes: 0, files: 0 };
  const members = new Map<string, { announced: number; came: number }>();
  let pauseMs = 0;
  const context: CollectContext = {
    captureId: '0199f2a0-0000-7000-8000-000000000000',
    target: { record: {}, freeze: undefined } as unknown as Target,
    runtime: { kind: 'host', pids: async () => listed() } as unknown as Runtime,
    host: { procRoot: '/proc', hostRoot: '' },
    ...options.real,
    signal: options.signal ?? new AbortController().signal,
    log: pino({ level: 'silent' }),
    now: Date.now,
    archive: async () => folderArchive(folder, members, options.discard ?? false),
    foreignArchive: () => Promise.reject(new Error('not used')),
    text: () => Promise.reject(new Error('not used')),
    gap: (gap) => void gaps.push(gap),
    note: (text) => void notes.push(text),
    fact: (name, value) => void facts.set(name, value),
    read: (bytes, files = 0) => {
      footprint.bytes += bytes;
      footprint.files += files;
    },
    paused: () => undefined,
    progress: () => undefined,
    freeze: async () => {
      if (options.freeze !== undefined) return options.freeze();
      const frozen = await stopAll(listed(), options.deadlineMs ?? 10_000, (ms) => {
        pauseMs = ms;
      });
      options.onFrozen?.();
      return frozen;
    },
    dumping: async () => undefined,
    consistency: options.consistency ?? 'frozen',
    bufferBytes: options.bufferBytes ?? 256 * 1024 * 1024,
  };
  const file = (member: string): string => path.join(folder, member);
  return {
    ...{ context, gaps, notes, facts, footprint, members, file },
    pauseMs: () => pauseMs,
    regions: (pid) => {
      const lines = readFileSync(file(`${pid}/regions.jsonl`), 'utf8')
        .trimEnd()
        .split('\n');
      return lines.map((line) => regionSchema.parse(JSON.parse(line)));
    },
    [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }),
  };
}

function folderArchive(folder: string, members: FakeContext['members'], discard: boolean): Archive {
  return {
    async add(header, body = []) {
      const name = String(header.path);
      const announced = header.sizeBytes ?? 0;
      let came = 0;
      const source = body instanceof Uint8Array ? [body] : body;
      async function* counted(): AsyncGenerator<Uint8Array> {
        for await (const chunk of source) {
          came += chunk.byteLength;
          // A stream reads ahead; an archive is done with a chunk before it asks for the next, which may take its place.
          yield Buffer.from(chunk);
        }
      }
      mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
      if (discard && name.endsWith('/core')) for await (const _ of counted());
      else await pipeline(Readable.from(counted(), { objectMode: true }), createWriteStream(path.join(folder, name)));
      members.set(name, { announced, came });
      return { member: { path: name, type: header.type, sizeBytes: announced }, bodyBytes: came };
    },
    commit: async () => undefined,
    [Symbol.asyncDispose]: async () => undefined,
  };
}

/** SIGSTOP, as the `signal` freezer does; thaws by itself at the deadline. */
export async function stopAll(
  pids: readonly number[],
  deadlineMs: number,
  done: (ms: number) => void,
): Promise<Frozen> {
  const started = performance.now();
  for (const pid of pids) process.kill(pid, 'SIGSTOP');
  while (!pids.every(stands)) await new Promise((resolve) => setTimeout(resolve, 1));
  let expired = false;
  let isThawed = false;
  let thawedAtMs = 0;
  const go = (): void => {
    if (isThawed) return;
    isThawed = true;
    thawedAtMs = Date.now();
    for (const pid of pids) if (exists(pid)) process.kill(pid, 'SIGCONT');
    done(performance.now() - started);
  };
  const timer = setTimeout(() => {
    expired = true;
    go();
  }, deadlineMs);
  const thaw = async (): Promise<FreezeRecord> => {
    clearTimeout(timer);
    go();
    const thawedBy = expired ? 'guard' : 'agent';
    const thawedAt = new Date(thawedAtMs).toISOString();
    const pauseMs = performance.now() - started;
    return { consistency: 'frozen', method: 'signal', pauseMs, thawedAt, thawedBy, notes: [] };
  };
  return {
    deadline: started + deadlineMs,
    get expired() {
      return expired;
    },
    registers: Promise.resolve({ threads: new Map() }),
    thaw,
    [Symbol.asyncDispose]: async () => void (await thaw()),
  };
}

function stateOf(pid: number): string {
  try {
    return /\) (\w)/.exec(readFileSync(`/proc/${pid}/stat`, 'latin1'))?.[1] ?? 'X';
  } catch {
    return 'X';
  }
}

/** Also every thread: SIGSTOP reaches the main thread first. */
function stands(pid: number): boolean {
  try {
    return readdirSync(`/proc/${pid}/task`).every((tid) => /[TtZX]/.test(stateOf(Number(tid))));
  } catch {
    return true;
  }
}

const exists = (pid: number): boolean => stateOf(pid) !== 'X';
