/** A request folder with a real registry and journal behind it, whose captures do nothing but end. */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pino } from 'pino';
import { vi } from 'vitest';
import { type CaptureRequest, type Captures, createCaptures, type Execute } from '../../agent/capture/captures.ts';
import { type Journal, type JournalEntry, openJournal } from '../../agent/capture/journal.ts';
import { openRequestFolder, type RequestFolder } from '../../agent/trigger/folder.ts';
import type { Answer } from '../../agent/trigger/folder-answer.ts';
import { type RequestFolderConfig, requestFolderSchema } from '../../agent/trigger/folder-options.ts';

export interface FolderLab extends AsyncDisposable {
  readonly folder: string;
  /** Every capture that was begun, by its id. */
  readonly begun: { captureId: string; request: CaptureRequest }[];
  readonly captures: Captures;
  readonly trigger: RequestFolder;
  log(): string;
  /** Writes beside and renames, as it is meant to be done. */
  put(name: string, content: string | object): void;
  answer(name: string): Answer | undefined;
  /** Names below, without dot-files. */
  names(): string[];
  rejected(): string[];
  reason(name: string): string;
  /** As if the process had been killed and another one had begun: the registry is new, the journal and folder are not. */
  again(over?: Partial<LabOptions>): Promise<FolderLab>;
}

export interface LabOptions {
  readonly config?: Partial<RequestFolderConfig>;
  readonly execute?: Execute;
  readonly now?: () => number;
  /** Keeps files and journal in memory: for counts that are about the folder alone. */
  readonly light?: boolean;
  readonly root?: string;
  /** Below `root`. */
  readonly folder?: string;
}

/** shm_overview(7): a tmpfs. */
const IN_MEMORY = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();

/** Accepts and ends at once. */
export const endsAtOnce: Execute = async (captureId, _request, { emit }) => {
  emit({ kind: 'accepted', target: 'prod/web-0/web', bundleUrl: `file:///evidence/${captureId}`, stages: ['seal'] });
  return { state: 'complete' };
};

export async function startFolderLab(options: LabOptions = {}): Promise<FolderLab> {
  const root = options.root ?? mkdtempSync(path.join(options.light ? IN_MEMORY : tmpdir(), 'exhibit-requests-'));
  const folder = path.join(root, options.folder ?? 'requests');
  mkdirSync(path.join(root, 'state'), { recursive: true });
  const lines: string[] = [];
  const log = pino({ level: 'debug' }, { write: (line: string) => void lines.push(line) });
  const begun: FolderLab['begun'] = [];
  const journal = options.light ? journalInMemory() : await openJournal(path.join(root, 'state'), () => undefined);
  const now = options.now ?? Date.now;
  const execute: Execute = (captureId, request, hooks) => {
    begun.push({ captureId, request });
    return (options.execute ?? endsAtOnce)(captureId, request, hooks);
  };
  const captures = createCaptures({ journal, execute, now, log: pino({ enabled: false }) });
  const trigger = await openRequestFolder({
    folder: requestFolderSchema.parse({
      ...{ path: folder, owners: [process.getuid?.() ?? 0], settleMs: 100, halfWrittenMs: 1000, sweepMs: 300 },
      ...options.config,
    }),
    node: 'node-1',
    host: { procRoot: '/proc', hostRoot: '' },
    captures,
    defaults: { artifacts: ['processes'], consistency: 'live', scope: 'container' },
    sinks: ['default'],
    now,
    log,
  });
  const stop = async () => {
    await captures.drain(0);
    await trigger[Symbol.asyncDispose]();
  };
  return {
    folder,
    begun,
    captures,
    trigger,
    log: () => lines.join(''),
    put(name, content) {
      const partial = path.join(folder, '.partial.tmp');
      writeFileSync(partial, typeof content === 'string' ? content : JSON.stringify(content), { mode: 0o600 });
      renameSync(partial, path.join(folder, name));
    },
    answer(name) {
      try {
        return JSON.parse(readFileSync(path.join(folder, `${name}.answer.json`), 'utf8')) as Answer;
      } catch {
        return undefined;
      }
    },
    names: () => readdirSync(folder).filter((name) => !name.startsWith('.')),
    rejected: () => readdirSync(path.join(folder, 'rejected')).sort(),
    reason: (name) =>
      (JSON.parse(readFileSync(path.join(folder, 'rejected', `${name}.reason.json`), 'utf8')) as { reason: string })
        .reason,
    again: async (over = {}) => {
      await stop();
      return await startFolderLab({ ...options, root, ...over });
    },
    async [Symbol.asyncDispose]() {
      await stop();
      rmSync(root, { recursive: true, force: true });
    },
  };
}

function journalInMemory(): Journal {
  const known = new Map<string, JournalEntry>();
  return {
    // Sorting ten thousand for each look at one of them is not what is tried here.
    entries: () => [],
    get: (captureId) => known.get(captureId),
    put: async (entry) => void known.set(entry.captureId, entry),
  };
}

/** What an operator drops. */
export const REQUEST = { target: 'prod/web-0', case: 'CASE-7', reason: 'alert' };

/** Written in place, as it is not meant to be done. */
export function plant(lab: FolderLab, name: string, content = JSON.stringify(REQUEST)): string {
  const file = path.join(lab.folder, name);
  writeFileSync(file, content, { mode: 0o600 });
  return file;
}

/** Events of the kernel, a look, a settled file: with a loaded machine's benefit of the doubt. */
const WAIT = { timeout: 15_000, interval: 20 };

export const eventually = <Value>(check: () => Value): Promise<Value> => vi.waitFor(check, WAIT);
