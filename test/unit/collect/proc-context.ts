import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import pino from 'pino';
import type { CollectContext } from '../../../agent/collect/collector.ts';
import type { Host } from '../../../agent/host/host.ts';
import { asPid, type Runtime, type Target } from '../../../agent/runtime/runtime.ts';
import type { Gap } from '../../../evidence/manifest.ts';
import { parseFacts } from '../fixtures/proc/proc-tree.ts';

/** What a collector wrote and said. */
export interface Written {
  readonly members: Map<string, Buffer>;
  readonly gaps: Omit<Gap, 'at'>[];
  readonly notes: string[];
  readonly facts: Record<string, unknown>;
  committed: boolean;
}

/** A context that keeps everything in memory, with these pids as the target. */
export function fakeContext(host: Host, pids: readonly number[]): { context: CollectContext; written: Written } {
  const written: Written = { members: new Map(), gaps: [], notes: [], facts: {}, committed: false };
  const refuse = (): never => {
    throw new Error('not for this collector');
  };
  const runtime: Pick<Runtime, 'pids'> = { pids: async () => pids.map(asPid) };
  const context: CollectContext = {
    captureId: 'test',
    target: { companions: [] } as unknown as Target,
    runtime: runtime as Runtime,
    host,
    signal: new AbortController().signal,
    log: pino({ level: 'silent' }),
    now: Date.now,
    dumping: async () => undefined,
    consistency: 'live',
    bufferBytes: 0,
    async archive() {
      return {
        async add(header, body) {
          const parts: Buffer[] = [];
          if (body instanceof Uint8Array) parts.push(Buffer.from(body));
          else for await (const chunk of body ?? []) parts.push(Buffer.from(chunk));
          const bytes = Buffer.concat(parts);
          const name = String(header.path);
          if (written.members.has(name)) throw new Error(`${name} twice`);
          written.members.set(name, bytes);
          const sha256 = createHash('sha256').update(bytes).digest('hex');
          const sizeBytes = header.sizeBytes ?? 0;
          return { bodyBytes: bytes.length, member: { path: name, type: header.type, sizeBytes, sha256 } };
        },
        async commit() {
          written.committed = true;
        },
        async [Symbol.asyncDispose]() {},
      };
    },
    foreignArchive: refuse,
    text: refuse,
    freeze: refuse,
    gap: (gap) => void written.gaps.push(gap),
    note: (text) => void written.notes.push(text),
    fact: (name, value) => {
      written.facts[name] = value;
    },
    read: () => {},
    paused: () => undefined,
    progress: () => {},
  };
  return { context, written };
}

/** JSON as tests look at it. */
export type Json = { readonly [key: string]: Json } & readonly Json[];

export function jsonLines(written: Written, name: string): Json[] {
  const text = written.members.get(name)?.toString('utf8') ?? '';
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line));
}

export interface Specimen extends AsyncDisposable {
  readonly fact: (name: string) => number;
  readonly folder: string;
}

/** Runs fixtures/proc/specimen.pl with a copy of perl that is deleted once it runs. */
export async function startSpecimen(): Promise<Specimen> {
  const folder = mkdtempSync(path.join(tmpdir(), 'exhibit-specimen-'));
  const perl = path.join(folder, 'perl');
  copyFileSync('/usr/bin/perl', perl);
  const child = spawn(perl, [path.resolve(import.meta.dirname, '../fixtures/proc/specimen.pl'), folder], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { SECRET: 'in-the-environment', LD_LIBRARY_PATH: '/nowhere' },
  });
  const [line] = await once(child.stdout, 'data');
  rmSync(perl);
  return {
    fact: parseFacts(String(line)),
    folder,
    async [Symbol.asyncDispose]() {
      child.stdin.end();
      await once(child, 'exit');
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
