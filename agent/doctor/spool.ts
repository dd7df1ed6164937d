import { reach } from '../host/host.ts';
import { asHostPath } from '../runtime/runtime.ts';
import { lookAtSpool, type SpoolLook } from '../sink/spool-look.ts';
import { OBSTACLES } from './agent.ts';
import { type Check, count, line, size } from './check.ts';
import type { Patient } from './patient.ts';

/** Where evidence waits that a sink did not take: whether it outlives what it is for, and how much goes in. */
export interface SpoolFacts extends SpoolLook {
  /** `spool.disk`. */
  readonly mayBeOnDisk: boolean;
  /** How many captures wait, by the sink that they wait for; undefined: there is no agent to ask. */
  readonly waiting: ReadonlyMap<string, number> | undefined;
  readonly sinks: readonly string[];
}

/** Eight parts of S3: less is full within a second or two of an outage. */
export const SPOOL_LEAST_BYTES = 64 * 2 ** 20;

/** What still goes in. */
export const spoolRoomBytes = ({ limitBytes, usedBytes, freeBytes }: SpoolLook): number =>
  Math.max(0, Math.min(limitBytes - usedBytes, freeBytes));

export function checkSpool(facts: SpoolFacts): Check {
  const say = line('evidence', 'spool');
  const { folder, key } = facts;
  const found = `${folder} is on ${facts.memoryFileSystem ?? 'a disk'}; ${size(facts.usedBytes)} used of ${size(facts.limitBytes)}${waitingWords(facts)}`;
  if (facts.memoryFileSystem === undefined && !facts.mayBeOnDisk) {
    return say.failure(
      found,
      'the agent does not start: it would write evidence over the disk of the node',
      'put stateDir or spool.path on a tmpfs, or allow it with spool.disk: true',
    );
  }
  if (typeof key === 'object') {
    return say.failure(
      `${found}; spool.keyFile ${key.unusable}`,
      'the agent does not start',
      'make one with: openssl rand -out FILE 32',
    );
  }
  const doubts = doubtsOf(facts);
  if (doubts.length === 0) return say.ok(found, 'evidence waits here while a sink is away');
  return say.warning(found, doubts.map(([meaning]) => meaning).join('; '), doubts.map(([, mend]) => mend).join('; '));
}

function waitingWords({ waiting, sinks }: SpoolFacts): string {
  if (waiting === undefined) return '';
  if (waiting.size === 0) return '; no capture waits';
  const each = [...waiting].map(([sink, captures]) => {
    return `${count(captures, 'capture')} for ${sink}${sinks.includes(sink) ? '' : ' (not configured any more)'}`;
  });
  return `; waiting: ${each.join(', ')}`;
}

function doubtsOf(facts: SpoolFacts): (readonly [meaning: string, mend: string])[] {
  const { key, waiting = new Map<string, number>(), sinks } = facts;
  const isOnDisk = facts.memoryFileSystem === undefined;
  const roomBytes = spoolRoomBytes(facts);
  const doubts: (readonly [string, string])[] = [];
  if (isOnDisk && key === 'in memory') {
    const mend = 'set spool.keyFile to a file that outlives a reboot (openssl rand -out FILE 32)';
    doubts.push(['a reboot loses the key, and with it all that waits here', mend]);
  } else if (isOnDisk && key === 'on a disk') {
    const mend = 'set spool.keyFile to a file elsewhere, such as a mounted Secret';
    doubts.push(['the key lies on the node’s disk as well: whoever takes both reads what waits', mend]);
  }
  if (roomBytes < SPOOL_LEAST_BYTES) {
    const mend = 'raise spool.bytes, the size of its file system, or the memory limit of the agent';
    doubts.push([`room for ${size(roomBytes)}: a sink that is away for seconds loses evidence`, mend]);
  }
  if (waiting.size > 0) {
    doubts.push(['evidence is not in its sink yet', 'see the lines of the sinks and exhibit captures']);
  }
  if ([...waiting.keys()].some((sink) => !sinks.includes(sink))) {
    doubts.push(['some of it waits for a sink that is gone', 'put that sink back into the configuration']);
  }
  return doubts;
}

export async function examineSpool({ config, host, sinks, waiting }: Patient): Promise<Check[]> {
  const check = checkSpool({
    ...(await lookAtSpool(config.spool, reach(host, asHostPath(config.stateDir)))),
    mayBeOnDisk: config.spool.disk,
    waiting: waiting && countBySink(waiting()),
    sinks: sinks.map(({ name }) => name),
  });
  return [check];
}

function countBySink(captures: readonly (readonly string[])[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const sink of captures.flat()) counts.set(sink, (counts.get(sink) ?? 0) + 1);
  return counts;
}

/** `obstacle`: see folderObstacle in host/folder-facts.ts. */
export const checkSpoolFolder = (folder: string, obstacle: string): Check =>
  line('evidence', 'spool').failure(
    `${folder} ${OBSTACLES[obstacle] ?? `cannot be written (${obstacle})`}`,
    'a capture notes there what it has stored, so none begins, whatever its sinks',
    obstacle === 'ENOSPC' ? 'make room on its file system' : 'mount it read-write, or set spool.path to another folder',
  );
