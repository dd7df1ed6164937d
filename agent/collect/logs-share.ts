import type { LogFile } from './logs-held.ts';

/** The part of a log file that is stored: all of it, or its end. */
export interface Share {
  readonly log: LogFile;
  readonly offset: number;
  readonly sizeBytes: number;
}

/**
 * Pure: spends `limitBytes` on the newest lines. The running log comes first, then what was written last; of the file that does
 * not fit, its end, unless it is compressed. Shares are in the order of their names, `left` from new to old.
 */
export function shareOut(
  files: readonly LogFile[],
  logName: string,
  limitBytes: number,
): { shares: Share[]; left: LogFile[] } {
  const running = (log: LogFile): number => (log.name.toString() === logName ? 0 : 1);
  const written = (log: LogFile): bigint => log.node.stat.mtimeNs;
  const newestFirst = files.toSorted(
    (a, b) => running(a) - running(b) || (written(a) > written(b) ? -1 : written(a) < written(b) ? 1 : 0),
  );
  const shares: Share[] = [];
  const left: LogFile[] = [];
  let room = limitBytes;
  for (const log of newestFirst) {
    const sizeBytes = Math.min(log.sizeBytes, room);
    const whole = sizeBytes === log.sizeBytes;
    // One that does not fit ends it: an older one in its place would leave a hole in the middle.
    if (left.length > 0 || (!whole && (log.compressed || sizeBytes === 0))) left.push(log);
    else shares.push({ log, offset: log.sizeBytes - sizeBytes, sizeBytes });
    room = left.length > 0 ? 0 : room - sizeBytes;
  }
  return { shares: shares.sort((a, b) => Buffer.compare(a.log.name, b.log.name)), left };
}
