import type { z } from 'zod';
import type { Obstacle } from '../../evidence/dump.ts';
import { type Host, procPath } from './host.ts';
import { type Asker, fileSchema, mapsSchema, type Refusal } from './preflight-ask.ts';
import {
  deviceKey,
  type Ghost,
  ghostObstacle,
  ghostOf,
  lockObstacles,
  type Mapped,
  mappedGhostOf,
  mappingObstacle,
  mayAsk,
  type OpenFile,
  parseMapped,
  targetObstacle,
  watchObstacle,
} from './preflight-files.ts';
import type { ProcessLook } from './preflight-look.ts';
import type { Survey } from './preflight-obstacle.ts';
import { createMountParser } from './process.ts';
import type { Mount } from './process-small.ts';
import { LIMIT_BYTES, readBounded } from './procfs.ts';

/** Deleted files that are looked at, 10 µs each; a file that many processes hold counts once. */
const GHOSTS_MAX = 4096;

type MapsAnswer = z.infer<typeof mapsSchema> | Refusal;
type MapsByPid = ReadonlyMap<number, MapsAnswer>;

/** The mappings of each process that may stop CRIU. */
export async function askMaps(asker: Asker, pids: readonly number[]): Promise<MapsByPid> {
  const answers = await asker.ask({ ask: 'maps', items: pids.map((pid) => ({ pid })) }, mapsSchema);
  return new Map(answers.map((answer, index) => [pids[index] ?? 0, answer]));
}

/** Finds the open and mapped files that stop CRIU. */
export async function filesSurvey(
  host: Host,
  asker: Asker,
  dumped: readonly ProcessLook[],
  maps: Promise<MapsByPid>,
): Promise<Survey> {
  const notes: string[] = [];
  const open = dumped.flatMap(({ pid, descriptors }) => descriptors.map((descriptor) => ({ pid, ...descriptor })));
  const files: OpenFile[] = open.map(({ info = '', ...rest }) => ({ ...rest, info }));
  const mountsOf = createMountTables(host);
  const answers = await maps;
  const mapped = dumped.flatMap(({ pid }) => mappedOf(pid, answers.get(pid), notes));
  const ghosts = unique([
    ...files.flatMap((file) => (file.target.endsWith(')') ? (ghostOf(file, mountsOf(file.pid)) ?? []) : [])),
    ...mapped.flatMap((one) => (one.target.endsWith(')') ? (mappedGhostOf(one, mountsOf(one.pid)) ?? []) : [])),
  ]);
  if (ghosts.length > GHOSTS_MAX) notes.push(`${ghosts.length} deleted files: ${GHOSTS_MAX} were looked at`);
  const deleted = new Set(ghosts.flatMap((ghost) => deviceKey(ghost) ?? []));
  const obstacles: Obstacle[] = [
    ...files.flatMap((file) =>
      [
        targetObstacle(file.pid, `descriptor ${file.fd}`, file.target) ?? [],
        lockObstacles(file),
        watchObstacle(file, deleted) ?? [],
      ].flat(),
    ),
    ...mapped.flatMap((one) => mappingObstacle(one) ?? []),
    ...(await askGhosts(asker, ghosts.slice(0, GHOSTS_MAX), notes)),
  ];
  return { obstacles, notes };
}

function mappedOf(pid: number, answer: MapsAnswer | undefined, notes: string[]): Mapped[] {
  if (answer === undefined) return [];
  if ('errno' in answer) {
    if (!GONE.has(answer.errno)) notes.push(`the mappings of process ${pid} cannot be read (${answer.errno})`);
    return [];
  }
  if (answer.omitted > 0 || answer.truncated) notes.push(`process ${pid} has too many mappings to look at all`);
  return answer.lines.flatMap((line) => parseMapped(pid, line) ?? []);
}

const GONE: ReadonlySet<string> = new Set(['ENOENT', 'ESRCH']);

async function askGhosts(asker: Asker, ghosts: readonly Ghost[], notes: string[]): Promise<Obstacle[]> {
  const local = ghosts.filter(mayAsk);
  const items = local.map(({ pid, name }) => ({ pid, name }));
  const answers = await asker.ask({ ask: 'files', items }, fileSchema);
  const unasked = ghosts.filter((ghost) => !mayAsk(ghost)).map((ghost) => ghostObstacle(ghost, undefined));
  const asked = local.map((ghost, index) => {
    const answer = answers[index];
    if (answer !== undefined && 'errno' in answer && !GONE.has(answer.errno))
      notes.push(`${ghost.name} of process ${ghost.pid} cannot be looked at (${answer.errno})`);
    return answer === undefined ? undefined : ghostObstacle(ghost, answer);
  });
  return [...asked, ...unasked].filter((obstacle) => obstacle !== undefined);
}

function unique(ghosts: readonly Ghost[]): Ghost[] {
  const found = new Map<string, Ghost>();
  for (const ghost of ghosts) {
    const key = deviceKey(ghost) ?? `${ghost.pid} ${ghost.name}`;
    if (!found.has(key)) found.set(key, ghost);
  }
  return [...found.values()];
}

/** Mount tables of those processes only that have a deleted file. */
function createMountTables(host: Host): (pid: number) => ReadonlyMap<number, Mount> {
  const parse = createMountParser();
  const known = new Map<number, ReadonlyMap<number, Mount>>();
  return (pid) => {
    const found = known.get(pid);
    if (found !== undefined) return found;
    const reading = readBounded(procPath(host, pid, 'mountinfo'), LIMIT_BYTES.mountinfo);
    const mounts = reading.kind === 'read' ? parse(reading.bytes) : new Map<number, Mount>();
    known.set(pid, mounts);
    return mounts;
  };
}
