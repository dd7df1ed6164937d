import { z } from 'zod';
import { readTar } from '../tar-reader.ts';
import { isPartOf } from '../timeline/archive.ts';
import { cutText, type FactsBuilder, type FactsLimits, type KindFacts } from './facts.ts';
import { type FactsArtifact, type FactsSource, factLines, missGaps, nameOfPath, readKinds } from './read.ts';

/** Processes and the files with code that they map, of `processes.tar.zst`: docs/volatile.md. */

const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const pathFields = { path: z.string(), pathBase64: z.string().optional(), sha256: sha256.optional() };

const processSchema = z.object({
  pid: z.number(),
  comm: z.string().optional(),
  commandLine: z.array(z.string()).optional(),
  executable: z.object({ ...pathFields, deleted: z.boolean().optional(), memfd: z.boolean().optional() }).optional(),
  status: z.object({ uids: z.object({ effective: z.number() }).optional() }).optional(),
  anomalies: z.array(z.object({ kind: z.string() })).optional(),
});
type Process = z.infer<typeof processSchema>;

const mappedSchema = z.object({ ...pathFields });

/** Gaps after which there may be mapped files that are not listed. */
const MAPS = /^pid \d+ [^/]*\bmaps\b|^mapped\.jsonl$/;

/** As the timeline has it: a process may have 100,000 descriptors in its line. */
const MAX_LINE_BYTES = 64 * 1024 * 1024;
/** Processes whose executable is remembered, for the sockets that they hold; Linux has 4,194,304 pids at most. */
const MAX_PIDS = 200_000;
/** Words of a command line that are looked at: the text is cut long before. */
const MAX_WORDS = 512;

export interface ProcessFacts {
  readonly processes: KindFacts;
  readonly libraries: KindFacts;
  /** By pid. */
  readonly executableOf: ReadonlyMap<number, string>;
}

export async function readProcesses(source: FactsSource, limits: FactsLimits): Promise<ProcessFacts> {
  const executableOf = new Map<number, string>();
  const object = 'processes.tar.zst';
  const from = { artifact: 'processes', object, kinds: ['processes', 'libraries'] } as const;
  const facts = await readKinds(source, limits, from, async ({ processes, libraries }, artifact) => {
    const pids = new Set<number>();
    const executables = new Set<string>();
    const containerOf = containersOf(source);
    const silent = pidsWithoutWords(artifact);
    try {
      for await (const { header, path, body } of readTar(source.content(object))) {
        if (header.type !== 'file') continue;
        if (isPartOf('processes', path)) {
          for await (const batch of factLines(body, processSchema, MAX_LINE_BYTES, { name: path, ...processes })) {
            for (const { value } of batch) {
              const name = addProcess(processes.builder, value, {
                container: containerOf(value.pid),
                hasWords: !silent.has(value.pid),
              });
              if (pids.size >= MAX_PIDS) continue;
              executables.add(name);
              pids.add(value.pid);
              executableOf.set(value.pid, name);
            }
          }
        } else if (isPartOf('mapped', path)) {
          processes.done = true;
          for await (const batch of factLines(body, mappedSchema, MAX_LINE_BYTES, { name: path, ...libraries })) {
            for (const { value } of batch) addMapped(libraries.builder, value, executables);
          }
        } else if (path.startsWith('recovered')) {
          // The rest is content, which may be large.
          libraries.done = true;
          break;
        }
      }
    } finally {
      const isOfMissing = (pid: number | undefined) => pid === undefined || !pids.has(pid);
      const isContent = (what: string) => what.startsWith('recovered/');
      missGaps(processes.builder, artifact, ({ pid, what }) => isOfMissing(pid) && !isContent(what));
      missGaps(
        libraries.builder,
        artifact,
        ({ pid, what }) => (isOfMissing(pid) && !isContent(what)) || MAPS.test(what),
      );
    }
  });
  return { ...facts, executableOf };
}

/** Of whose command line a gap says that it could not be read. */
function pidsWithoutWords({ gaps }: FactsArtifact): ReadonlySet<number> {
  const found = gaps.filter(({ what }) => /^pid \d+ [^/]*\bcmdline\b/.test(what));
  return new Set(found.flatMap(({ pid }) => pid ?? []));
}

/** Its name, which is the executable's path, or the command in parentheses where it has none. */
function addProcess(
  builder: FactsBuilder,
  process: Process,
  { container, hasWords }: { readonly container: string | undefined; readonly hasWords: boolean },
): string {
  const { executable, comm = '?', commandLine = [], status, anomalies = [] } = process;
  const name = cutText(executable === undefined ? `(${comm})` : nameOfPath(withoutMark(executable)));
  const digest = executable?.sha256;
  builder.add(processKey(name, digest), {
    executable: name,
    sha256: digest,
    deleted: executable?.deleted,
    memfd: executable?.memfd,
    count: 1,
    users: status?.uids === undefined ? undefined : [status.uids.effective],
    commands: hasWords ? [commandOf(commandLine)] : undefined,
    containers: container === undefined ? undefined : [container],
    anomalies: anomalies.map(({ kind }) => kind),
  });
  return name;
}

/** Executables are told from each other by path and content. */
export function processKey(executable: string, digest: string | undefined): string {
  return digest === undefined ? executable : `${executable} sha256:${digest}`;
}

function addMapped(builder: FactsBuilder, file: z.infer<typeof mappedSchema>, executables: ReadonlySet<string>): void {
  const path = cutText(nameOfPath(file));
  if (executables.has(path)) return;
  builder.add(path, { path, sha256: file.sha256 === undefined ? undefined : [file.sha256] });
}

/** The kernel's mark for a file without a name. */
function withoutMark<File extends { path: string; deleted?: boolean | undefined }>(file: File): File {
  return file.deleted === true ? { ...file, path: file.path.replace(/ \(deleted\)$/, '') } : file;
}

/** The name of the container that a process is in, where the capture is of several. */
function containersOf({ target }: FactsSource): (pid: number) => string | undefined {
  const { companions = [] } = target;
  if (companions.length === 0) return () => undefined;
  const names = new Map([target, ...companions].flatMap(({ name, pids }) => pids.map((pid) => [pid, name] as const)));
  return (pid) => names.get(pid);
}

function commandOf(words: readonly string[]): string {
  return cutText(words.slice(0, MAX_WORDS).map(quoteWord).join(' '));
}

/** So that the words can be told from each other. */
function quoteWord(word: string): string {
  return /^[^\s'"\\]+$/.test(word) ? word : JSON.stringify(word);
}
