import { type AuditStamp, auditPids, auditStamp } from './audit-record.ts';

/** Why a record is the target's. */
export type Attribution = 'pid' | 'mention' | 'event';

export interface Attributor {
  /** A line, in the log's order. Undefined for what is no record, or from without the window. */
  see(line: string): AuditStamp | undefined;
  /** After all lines were seen: why this one belongs to the target. */
  attribute(line: string): Attribution | undefined;
  /** Pids that were not known before, which descend from known ones. */
  readonly learned: number;
  /** Learned pids that were given to a process of somebody else. */
  readonly forgotten: number;
  /** Events that were found, but beyond what is kept. */
  readonly overflow: number;
}

export interface AttributionInput {
  readonly fromUs: bigint;
  readonly toUs: bigint;
  readonly pidsSinceUs: ReadonlyMap<number, bigint>;
  readonly mentions: readonly string[];
}

/** Pids a kernel gives: 4,194,304 at most (PID_MAX_LIMIT); a target that forks without end must not fill memory. */
const MAX_PIDS = 200_000;
const MAX_EVENTS = 500_000;

/**
 * Which audit records are about the target: those that name one of its pids within that process' time, those that have one of
 * its ids, and the other records of the same events. A process that a known one forked is known from that record on, so those
 * that have ended are found too. A learned pid is forgotten when a record has it with a parent that is not known: somebody else
 * has it by then. (An orphan's new parent is process 1 of its own pid namespace, which is known.)
 */
export function createAttributor({ fromUs, toUs, pidsSinceUs, mentions }: AttributionInput): Attributor {
  const learnedPids = new Set<number>();
  const events = new Map<string, 'pid' | 'mention'>();
  const needles = mentions.flatMap((id) => [id, Buffer.from(id).toString('hex').toUpperCase()]);
  let [learned, forgotten, overflow] = [0, 0, 0];
  const isKnown = (pid: number | undefined, atUs: bigint): boolean => {
    if (pid === undefined || pid === 0) return false;
    const since = pidsSinceUs.get(pid);
    return since === undefined ? learnedPids.has(pid) : atUs >= since;
  };

  /** Whether a pid of the line is the target's; learns and forgets on the way. */
  const names = (line: string, atUs: bigint): boolean => {
    const { pid, ppid, opid } = auditPids(line);
    if (pid !== undefined && ppid !== undefined && !pidsSinceUs.has(pid)) {
      if (isKnown(ppid, atUs)) {
        if (!learnedPids.has(pid) && learnedPids.size < MAX_PIDS) {
          learnedPids.add(pid);
          learned += 1;
        }
      } else if (learnedPids.delete(pid)) forgotten += 1;
    }
    return isKnown(pid, atUs) || isKnown(ppid, atUs) || isKnown(opid, atUs);
  };

  return {
    get learned() {
      return learned;
    },
    get forgotten() {
      return forgotten;
    },
    get overflow() {
      return overflow;
    },
    see(line) {
      const stamp = auditStamp(line);
      if (stamp === undefined || stamp.realtimeUs < fromUs || stamp.realtimeUs > toUs) return undefined;
      const why = names(line, stamp.realtimeUs)
        ? 'pid'
        : needles.some((needle) => line.includes(needle))
          ? 'mention'
          : undefined;
      if (why === undefined) return stamp;
      const event = eventOf(stamp);
      if (events.has(event)) {
        if (why === 'pid') events.set(event, why);
      } else if (events.size < MAX_EVENTS) events.set(event, why);
      else overflow += 1;
      return stamp;
    },
    attribute(line) {
      const stamp = auditStamp(line);
      const why = stamp === undefined ? undefined : events.get(eventOf(stamp));
      if (why === undefined) return undefined;
      const { pid, ppid, opid } = auditPids(line);
      if (why === 'pid') return (pid ?? ppid ?? opid) === undefined ? 'event' : 'pid';
      return needles.some((needle) => line.includes(needle)) ? 'mention' : 'event';
    },
  };
}

const eventOf = ({ realtimeUs, serial }: AuditStamp): string => `${realtimeUs}:${serial}`;
