import { z } from 'zod';
import type { TarEntry } from '../tar-reader.ts';
import { archiveSource, isPartOf } from './archive.ts';
import { createTally, jsonBatches } from './lines.ts';
import { parseMoment } from './moment.ts';
import {
  cutText,
  type EntryTime,
  type Meaning,
  type TimelineBundle,
  type TimelineEntry,
  type TimelineFields,
  type TimelineObject,
} from './timeline.ts';

/** When processes were started, and the times of executables and deleted files that they hold: docs/volatile.md. */

const text = z.string();
/** Small numbers are written as such, large ones as decimal strings. */
const integer = z.union([z.string().regex(/^-?\d{1,28}$/), z.number().int()]);

const fileSchema = z.looseObject({
  path: text,
  pathBase64: text.optional(),
  inode: integer.optional(),
  mode: z.number().optional(),
  uid: z.number().optional(),
  gid: z.number().optional(),
  sizeBytes: integer.optional(),
  sha256: text.optional(),
});
const executableSchema = fileSchema.extend({
  deleted: z.boolean().optional(),
  modifiedAt: text.optional(),
  changedAt: text.optional(),
});
const processSchema = z.looseObject({
  pid: z.number(),
  ppid: z.number().optional(),
  comm: text.optional(),
  commandLine: z.array(text).optional(),
  startedAt: text.optional(),
  executable: executableSchema.optional(),
  anomalies: z.array(z.looseObject({ kind: text })).optional(),
});
type Process = z.infer<typeof processSchema>;

const recoveredSchema = fileSchema.extend({
  member: text,
  heldBy: z.array(text).optional(),
  modifiedNs: integer.optional(),
  changedNs: integer.optional(),
});
type Recovered = z.infer<typeof recoveredSchema>;

/** A process may have 100,000 descriptors in its line, of some 500 bytes each. */
const MAX_LINE_BYTES = 64 * 1024 * 1024;

export const processesSource = archiveSource('processes.tar.zst', (member, object, bundle) => {
  if (isPartOf('processes', member.path)) return linesOf(member, object, bundle, processSchema, processEntries);
  if (isPartOf('recovered', member.path)) return linesOf(member, object, bundle, recoveredSchema, recoveredEntries);
  return undefined;
});

type Where = Pick<TimelineEntry, 'artifact' | 'object' | 'member' | 'line'>;

async function* linesOf<T>(
  member: TarEntry,
  object: TimelineObject,
  bundle: TimelineBundle,
  schema: z.ZodType<T>,
  entries: (value: T, where: Where, bundle: TimelineBundle) => Generator<TimelineEntry>,
): AsyncGenerator<Iterable<TimelineEntry>> {
  const tally = createTally();
  const where = { artifact: object.artifact, object: object.name, member: member.path };
  for await (const batch of jsonBatches(member.body, schema, MAX_LINE_BYTES, tally)) {
    yield (function* () {
      for (const { line, value } of batch) yield* entries(value, { ...where, line }, bundle);
    })();
  }
  tally.tell(bundle, object, member.path);
}

function* processEntries(process: Process, where: Where, bundle: TimelineBundle): Generator<TimelineEntry> {
  const { pid, ppid, comm = '?', executable } = process;
  const common = { ...where, container: containerOf(bundle, pid) };
  const words = cutText((process.commandLine ?? []).map(quoteWord).join(' '));
  yield {
    ...common,
    kind: 'process',
    dataType: 'linux:process',
    message: `pid ${pid}${anomaliesOf(process)} started: ${words === '' ? `(${comm})` : words}`,
    times: timesOf([[process.startedAt, 'started']]),
    fields: { pid, ppid, executable: executable?.path, sha256: executable?.sha256, command_line: words || undefined },
  };
  if (executable === undefined) return;
  yield {
    ...common,
    kind: 'file',
    dataType: 'fs:stat',
    message: `${executable.path}${executable.deleted === true ? ' (deleted)' : ''}: executable of pid ${pid}`,
    times: timesOf([
      [executable.modifiedAt, 'modified'],
      [executable.changedAt, 'changed'],
    ]),
    fields: { ...fileFields(executable), pid },
  };
}

/** Before the command line, which is the process' own choice and could end like this. */
function anomaliesOf({ anomalies = [] }: Process): string {
  const kinds = [...new Set(anomalies.map(({ kind }) => kind))];
  return kinds.length === 0 ? '' : ` (${cutText(kinds.join(', '))})`;
}

function* recoveredEntries(file: Recovered, where: Where): Generator<TimelineEntry> {
  const times: EntryTime[] = [];
  if (file.modifiedNs !== undefined) times.push({ ns: BigInt(file.modifiedNs), meaning: 'modified' });
  if (file.changedNs !== undefined) times.push({ ns: BigInt(file.changedNs), meaning: 'changed' });
  const message = `${file.path}: deleted, held by ${file.heldBy?.[0] ?? 'a process'}, content in ${file.member}`;
  yield { ...where, kind: 'file', dataType: 'fs:stat', message, times, fields: fileFields(file) };
}

function fileFields(file: z.infer<typeof fileSchema>): TimelineFields {
  const { path, pathBase64: path_base64, inode, mode, uid, gid, sizeBytes, sha256 } = file;
  return {
    ...{ path, path_base64, file_type: 'file', uid, gid, sha256 },
    inode: inode === undefined ? undefined : String(inode),
    mode: mode === undefined ? undefined : (mode & 0o7777).toString(8),
    size: sizeBytes === undefined ? undefined : Number(sizeBytes),
  };
}

function timesOf(times: readonly (readonly [at: string | undefined, meaning: Meaning])[]): EntryTime[] {
  return times.flatMap(([at, meaning]) => {
    const ns = at === undefined ? undefined : parseMoment(at);
    return ns === undefined ? [] : [{ ns, meaning }];
  });
}

/** So that the words can be told from each other. */
function quoteWord(word: string): string {
  return /^[^\s'"\\]+$/.test(word) ? word : JSON.stringify(word);
}

/** The name of the container, where it is another of the pod than the target. */
function containerOf({ manifest }: TimelineBundle, pid: number): string | undefined {
  return manifest.target.companions?.find(({ pids }) => pids.includes(pid))?.name;
}
