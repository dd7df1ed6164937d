import { once } from 'node:events';
import { createWriteStream, mkdirSync, readFileSync, renameSync } from 'node:fs';
import path from 'node:path';
import { zstdDecompressSync } from 'node:zlib';
import pino from 'pino';
import type { CollectContext } from '../../../agent/collect/collector.ts';
import type { Runtime, Target } from '../../../agent/runtime/runtime.ts';
import type { Gap, StoredObject } from '../../../evidence/manifest.ts';
import { createBundleWriter, type OpenObject } from '../../../evidence/write.ts';

/** A collector's context over the real bundle writer, into a folder of the test. */
export interface BundleContext {
  readonly context: CollectContext;
  readonly gaps: Omit<Gap, 'at'>[];
  readonly notes: string[];
  readonly facts: Map<string, unknown>;
  readonly objects: StoredObject[];
  /** Bytes and files that the collector says it read. */
  readonly footprint: { bytes: number; files: number };
  /** Path of a stored object. */
  at(name: string): string;
  /** An object as zstd gives it back. */
  content(name: string): Buffer;
}

export const TARGET_RECORD: Target['record'] = {
  runtime: 'test',
  kind: 'container',
  id: 'c1',
  name: 'victim',
  labels: {},
  initPid: 1,
  pids: [1],
};

export function makeTarget(parts: Partial<Target>): Target {
  return {
    record: TARGET_RECORD,
    freeze: undefined,
    rootfs: undefined,
    mounts: [],
    logPath: undefined,
    documents: [],
    notes: [],
    companions: [],
    ...parts,
  };
}

export function bundleContext(
  folder: string,
  target: Target,
  options: { signal?: AbortSignal; hostRoot?: string } = {},
): BundleContext {
  mkdirSync(folder, { recursive: true });
  const gaps: Omit<Gap, 'at'>[] = [];
  const notes: string[] = [];
  const facts = new Map<string, unknown>();
  const objects: StoredObject[] = [];
  const footprint = { bytes: 0, files: 0 };
  const at = (name: string): string => path.join(folder, name);
  const bundle = createBundleWriter(fileSink(folder), { onStored: (object) => objects.push(object) });
  const context: CollectContext = {
    captureId: 'capture',
    target,
    runtime: new Proxy({} as Runtime, {
      get: (_, name) => {
        throw new Error(`this collector does not need the runtime's ${String(name)}`);
      },
    }),
    host: { procRoot: '/proc', hostRoot: options.hostRoot ?? '' },
    signal: options.signal ?? new AbortController().signal,
    log: pino({ level: 'silent' }),
    now: () => 1_762_000_000_000,
    archive: (name, opened) => bundle.openArchive(name, opened),
    foreignArchive: (name) => bundle.openForeignArchive(name),
    text: (name, mediaType) => bundle.openText(name, mediaType),
    gap: (gap) => gaps.push(gap),
    note: (text) => notes.push(text),
    fact: (name, value) => facts.set(name, value),
    read: (bytes, files = 0) => {
      footprint.bytes += bytes;
      footprint.files += files;
    },
    paused: () => undefined,
    progress: () => undefined,
    freeze: () => Promise.reject(new Error('this collector does not freeze')),
    dumping: async () => undefined,
    consistency: 'live',
    bufferBytes: 0,
  };
  return {
    context,
    gaps,
    notes,
    facts,
    objects,
    footprint,
    at,
    content: (name) => zstdDecompressSync(readFileSync(at(name))),
  };
}

function fileSink(folder: string): OpenObject {
  return async (name) => {
    const part = path.join(folder, `${name}.part`);
    const stream = createWriteStream(part);
    return {
      write: async (chunk) => {
        // A copy: the stream keeps what it has not written yet, and a byte sink may not.
        if (!stream.write(Uint8Array.from(chunk))) await once(stream, 'drain');
      },
      commit: async () => {
        stream.end();
        await once(stream, 'close');
        renameSync(part, path.join(folder, name));
      },
      [Symbol.asyncDispose]: async () => {
        if (stream.closed) return;
        stream.destroy();
        await once(stream, 'close');
      },
    };
  };
}
