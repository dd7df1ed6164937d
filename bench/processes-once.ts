/**
 * `node bench/processes-once.ts FOLDER packed|dropped CODE_CACHE`: one capture of the processes whose pids are on standard input, in a process of
 * its own as an agent's first capture is, and its figures as JSON. `dropped`: what would be stored is thrown away, so that
 * the difference is the price of tar, digests, compression and the sink.
 */
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import pino from 'pino';
import type { Archive, CollectContext } from '../agent/collect/collector.ts';
import { processesCollector } from '../agent/collect/processes.ts';
import { openReader } from '../agent/host/procfs-reader.ts';
import { asPid, type Runtime, type Target } from '../agent/runtime/runtime.ts';
import { openLocalSink } from '../agent/sink/local.ts';
import type { StoredObject } from '../evidence/manifest.ts';
import { createBundleWriter } from '../evidence/write.ts';

export interface ScanFigures {
  readonly agentCpuMs: number;
  readonly readerCpuMs: number;
  readonly wallMs: number;
  /** Peaks of resident memory. */
  readonly agentPeakMib: number;
  readonly readerPeakMib: number;
  readonly processes: number;
  readonly descriptors: number;
  /** Only where they are dropped: otherwise they are listed in an object of their own. */
  readonly members: number;
  readonly contentBytes: number;
  readonly storedBytes: number;
  readonly gaps: number;
}

/** VmHWM of proc(5), in MiB. */
function peakMib(pid: number): number {
  return Math.round(Number(/^VmHWM:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? 0) / 1024);
}

async function scanOnce(
  folder: string,
  packed: boolean,
  codeCache: string,
  pids: readonly number[],
): Promise<ScanFigures> {
  const signal = new AbortController().signal;
  await using sink = openLocalSink({ url: pathToFileURL(folder).href });
  const objects: StoredObject[] = [];
  const writer = createBundleWriter((name, contentType) => sink.open(`capture/${name}`, { contentType, signal }), {
    level: 1,
    onStored: (object) => objects.push(object),
  });
  const facts = new Map<string, unknown>();
  let gaps = 0;
  let readerPeakMib = 0;
  let members = 0;
  let contentBytes = 0;
  const refuse = (): never => {
    throw new Error('not for this collector');
  };
  const dropped = async (): Promise<Archive> => ({
    async add(header) {
      members += 1;
      contentBytes += header.sizeBytes ?? 0;
      const { type, sizeBytes = 0 } = header;
      return { bodyBytes: sizeBytes, member: { path: String(header.path), type, sizeBytes } };
    },
    commit: async () => undefined,
    [Symbol.asyncDispose]: async () => undefined,
  });
  const runtime: Pick<Runtime, 'pids'> = { pids: async () => pids.map(asPid) };
  const context: CollectContext = {
    captureId: 'bench',
    target: { companions: [] } as unknown as Target,
    runtime: runtime as Runtime,
    host: { procRoot: '/proc', hostRoot: '' },
    signal,
    log: pino({ level: 'silent' }),
    now: Date.now,
    dumping: async () => undefined,
    consistency: 'live',
    bufferBytes: 0,
    archive: packed ? writer.openArchive : dropped,
    foreignArchive: refuse,
    text: refuse,
    freeze: refuse,
    gap: () => {
      gaps += 1;
    },
    note: () => undefined,
    fact: (name, value) => {
      facts.set(name, value);
      // The last fact, told while the reader is still there.
      if (name !== 'readerCpuMs') return;
      const children = readFileSync(`/proc/self/task/${process.pid}/children`, 'latin1').trim().split(' ').map(Number);
      readerPeakMib = Math.max(...children.map(peakMib));
    },
    read: () => undefined,
    paused: () => undefined,
    progress: () => undefined,
  };
  const before = process.cpuUsage();
  const startedAt = performance.now();
  await processesCollector({ openReader: (host) => openReader(host, { codeCache }) }).collect(context);
  const wallMs = performance.now() - startedAt;
  const cpu = process.cpuUsage(before);
  for (const { content } of objects) contentBytes += content?.sizeBytes ?? 0;
  const fact = (name: string): number => Number(facts.get(name) ?? Number.NaN);
  return {
    agentCpuMs: (cpu.user + cpu.system) / 1000,
    readerCpuMs: fact('readerCpuMs'),
    wallMs,
    agentPeakMib: peakMib(process.pid),
    readerPeakMib,
    processes: fact('processes'),
    descriptors: fact('descriptors'),
    members,
    contentBytes,
    storedBytes: objects.reduce((total, { stored }) => total + stored.sizeBytes, 0),
    gaps,
  };
}

const [folder = '', way = 'packed', codeCache = ''] = process.argv.slice(2);
const pids = readFileSync(0, 'latin1').trim().split(' ').map(Number);
process.stdout.write(`${JSON.stringify(await scanOnce(folder, way === 'packed', codeCache, pids))}\n`);
