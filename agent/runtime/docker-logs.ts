/** Pure: where Docker keeps what a container wrote, by its log driver, and what `docker logs` answers. */
import type { Answer } from './docker-client.ts';
import type { DockerFolders, Inspected } from './docker-inspect.ts';
import { asHostPath, type HostPath } from './runtime.ts';

/** How much `docker logs` is asked for where no file of lines can be taken: a page for people, not the evidence itself. */
export const LOG_LINES = 2000;

export interface LogFinding {
  /** The log's file; rotations lie beside it. It need not exist where `certain` is false. */
  readonly file?: HostPath;
  readonly certain: boolean;
  /** Whether `docker logs` has to tell what the file does not, or not in lines. */
  readonly ask: boolean;
  readonly driver: string;
}

/**
 * `json-file` has lines of JSON. `local` has records of protobuf. Every other driver sends the lines away, and Docker keeps the
 * last ones in a file of the `local` kind unless that was switched off (cache-disabled); `none` keeps nothing.
 */
export function logOf(one: Inspected, { root }: DockerFolders): LogFinding {
  const driver = one.HostConfig?.LogConfig?.Type ?? '';
  const folder = `${root}/containers/${one.Id}`;
  switch (driver) {
    case 'json-file':
    case '':
      return { driver, ask: false, certain: true, ...(one.LogPath === '' ? {} : { file: asHostPath(one.LogPath) }) };
    case 'local':
      return { driver, ask: true, certain: true, file: asHostPath(`${folder}/local-logs/container.log`) };
    case 'none':
      return { driver, ask: false, certain: true };
    default:
      return { driver, ask: true, certain: false, file: asHostPath(`${folder}/container-cached.log`) };
  }
}

/** What the manifest says about it. `found`: the file is there; `told`: `docker logs` answered. */
export function logNotes({ driver, ask }: LogFinding, found: boolean, told: boolean): string[] {
  if (driver === 'json-file' || driver === '') return found ? [] : ['Docker names no log file for the container'];
  if (driver === 'none') return ['the log driver is none: Docker keeps nothing of what the container wrote'];
  const page = `docker-logs.json has the last ${LOG_LINES} lines of it`;
  const lines = ask && told ? [page] : ['docker logs could not tell them'];
  if (driver === 'local') {
    return [
      `the log driver is local: its files are records of protobuf (moby, api/types/plugins/logdriver); ${lines[0]}`,
    ];
  }
  const kept = found ? 'the log artifact is what Docker itself still keeps of them' : 'Docker keeps no file of them';
  return [
    `the log driver is ${driver}: the lines are sent elsewhere and have to be asked for there; ${kept}; ${lines[0]}`,
  ];
}

const HEADER_BYTES = 8;
const STREAMS = ['stdin', 'stdout', 'stderr'] as const;

interface Chunk {
  readonly stream: (typeof STREAMS)[number];
  readonly bytes: Buffer;
}

/** The frames of `docker logs` (stream, three zeros, length in four bytes); a terminal's log has none. */
function chunksOf({ contentType, body }: Answer): Chunk[] {
  if (contentType !== 'application/vnd.docker.multiplexed-stream') return [{ stream: 'stdout', bytes: body }];
  const chunks: Chunk[] = [];
  for (let at = 0; at + HEADER_BYTES <= body.length; ) {
    const stream = STREAMS[body.readUInt8(at)] ?? 'stdout';
    const end = at + HEADER_BYTES + body.readUInt32BE(at + 4);
    chunks.push({ stream, bytes: body.subarray(at + HEADER_BYTES, end) });
    at = end;
  }
  return chunks;
}

/** As a json-file log has them; `logBase64` in place of `log` for what is not UTF-8. */
export interface LogLine {
  readonly stream: string;
  readonly time: string;
  readonly log?: string;
  readonly logBase64?: string;
}

/** `docker logs --timestamps` as records. */
export function logLines(answer: Answer): LogLine[] {
  return chunksOf(answer).flatMap(({ stream, bytes }) => linesOf(bytes).map((line) => ({ stream, ...timed(line) })));
}

function linesOf(bytes: Buffer): Buffer[] {
  const lines: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const newline = bytes.indexOf(10, at);
    const end = newline < 0 ? bytes.length : newline + 1;
    lines.push(bytes.subarray(at, end));
    at = end;
  }
  return lines;
}

/** RFC 3339 and a space before what was written. */
function timed(line: Buffer): { time: string; log?: string; logBase64?: string } {
  const time = /^\d{4}-\d\d-\d\dT[0-9:.]+(?:Z|[+-]\d\d:\d\d) /.exec(line.subarray(0, 40).toString('latin1'))?.[0] ?? '';
  const rest = line.subarray(time.length);
  const log = rest.toString('utf8');
  const exact = Buffer.from(log, 'utf8').equals(rest);
  return { time: time.trimEnd(), ...(exact ? { log } : { logBase64: rest.toString('base64') }) };
}
