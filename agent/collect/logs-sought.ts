import path from 'node:path';
import { procPath } from '../host/host.ts';
import { readBootClock } from '../host/identity.ts';
import { parseStat } from '../host/process-stat.ts';
import { KIB, readBounded } from '../host/procfs.ts';
import type { CollectContext } from './collector.ts';

/** What makes a line of the node's logs one about the target. */
export interface Sought {
  /** Microseconds since the epoch. */
  readonly fromUs: bigint;
  readonly toUs: bigint;
  /** Pids of the node's namespace that are the target's, and since when: a pid may have been another's before. */
  readonly pidsSinceUs: ReadonlyMap<number, bigint>;
  /** Ids that stand for nothing else: of container, sandbox and pod. */
  readonly mentions: readonly string[];
  readonly units: ReadonlySet<string>;
}

export interface WindowOptions {
  readonly windowMarginMs: number;
  readonly windowMaxMs: number;
  readonly units: readonly string[];
}

/** Shorter ones, such as a name, could stand in a line by chance. */
const MIN_MENTION_LENGTH = 12;
/** A clock tick is 10 ms, and the boot time is exact to as much: an audit record must not miss its process by that. */
const START_SLACK_US = 1_000_000n;

export async function whatIsSought(context: CollectContext, options: WindowOptions): Promise<Sought> {
  const { target, now } = context;
  const toMs = now();
  const starts = startTimes(context, await pidsOf(context));
  const createdMs = lifeBegin(context, starts);
  const earliestMs = toMs - options.windowMaxMs;
  const fromMs = createdMs === undefined ? earliestMs : createdMs - options.windowMarginMs;
  if (createdMs === undefined)
    context.note('it is not known since when the target lives: node logs are taken as far back as logs.windowMaxMs');
  else if (fromMs < earliestMs)
    context.note('the target is older than logs.windowMaxMs: what node logs say from before is left out');
  const { record } = target;
  const { pod } = record;
  const companions = (record.companions ?? []).map(({ id }) => id);
  const ids = [
    record.id,
    ...companions,
    ...(pod === undefined ? [] : [pod.uid, pod.uid.replaceAll('-', '_'), pod.sandboxId]),
  ];
  return {
    fromUs: microseconds(Math.max(fromMs, earliestMs, 0)),
    toUs: microseconds(toMs),
    pidsSinceUs: new Map([...starts].map(([pid, startMs]) => [pid, sinceUs(startMs ?? createdMs ?? toMs)])),
    mentions: [...new Set(ids.filter((id) => id.length >= MIN_MENTION_LENGTH))],
    units: new Set([...options.units, ...ownUnit(record.cgroup)]),
  };
}

const microseconds = (ms: number): bigint => BigInt(Math.floor(ms)) * 1000n;

function sinceUs(startMs: number): bigint {
  const us = microseconds(startMs) - START_SLACK_US;
  return us > 0n ? us : 0n;
}

/** Of a target that is a service or a scope of systemd. */
function ownUnit(cgroup: string | undefined): string[] {
  const name = cgroup === undefined ? '' : path.posix.basename(cgroup);
  return /\.(service|scope)$/.test(name) ? [name] : [];
}

/** Those that were found when the target was, and those of now. */
async function pidsOf({ target, runtime, signal }: CollectContext): Promise<number[]> {
  const known = [...target.record.pids, ...(target.record.companions ?? []).flatMap(({ pids }) => pids)];
  let present: readonly number[] = [];
  try {
    present = await runtime.pids(target, signal);
  } catch {
    // It has ended, or the runtime is silent: what was found at first has to do.
    signal.throwIfAborted();
  }
  return [...new Set([...known, ...present])];
}

/** Milliseconds since the epoch; undefined for a process that has ended. */
function startTimes({ host, now }: CollectContext, pids: readonly number[]): Map<number, number | undefined> {
  const clock = readBootClock(host, now);
  return new Map(
    pids.map((pid) => {
      const reading = readBounded(procPath(host, pid, 'stat'), 4 * KIB);
      const stat = reading.kind === 'read' ? parseStat(reading.bytes) : undefined;
      return [pid, stat === undefined ? undefined : clock.bootTimeMs + (stat.startTicks * 1000) / clock.ticksPerSecond];
    }),
  );
}

function lifeBegin({ target }: CollectContext, starts: ReadonlyMap<number, number | undefined>): number | undefined {
  const created = target.createdAt === undefined ? Number.NaN : Date.parse(target.createdAt);
  return Number.isNaN(created) ? starts.get(target.record.initPid) : created;
}
