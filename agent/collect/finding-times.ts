import type { FindingReason } from '../../evidence/file-finding.ts';
import { contentDiffers, type Judgement, type Moments, type Subject } from './finding-subject.ts';

/**
 * What times cannot be by themselves. The kernel sets ctime whenever an inode changes and gives nobody a call to set it, and
 * birth once; mtime can be set to anything (utimensat(2)). So an mtime that does not fit the other two was set by a program:
 * touch(1), and also tar(1), cp(1) -p, rsync(1) and package managers. Pure.
 */

const SECOND_NS = 1_000_000_000n;
/** Clocks are stepped by a little, and file systems round. */
const SLACK_NS = 2n * SECOND_NS;
/** A clock that is ahead by less is no news. */
const FUTURE_NS = 300n * SECOND_NS;
/** tar, cp and dpkg set a file's times within seconds of making it. */
const LATER_NS = 60n * SECOND_NS;

export function judgeTimes(subject: Subject, moments: Moments): Judgement | undefined {
  const { mtimeNs, ctimeNs, birthNs, lower } = subject;
  const reasons: FindingReason[] = [];
  const isLowers = lower !== undefined && lower.mtimeNs === mtimeNs;
  const restored = isLowers && subject.sizeBytes > 0n && contentDiffers(subject) === true;
  if (restored) reasons.push('mtime-restored');
  if (mtimeNs > ctimeNs + SLACK_NS) {
    reasons.push('mtime-after-change');
    if (mtimeNs > moments.nowNs + FUTURE_NS) reasons.push('mtime-in-future');
  }
  if (birthNs > ctimeNs + SLACK_NS) reasons.push('birth-after-change');
  const impossible = reasons.length > 0;
  // What is copied up keeps its mtime and gets a new birth.
  const isOlder = birthNs !== 0n && mtimeNs < birthNs - SLACK_NS && !isLowers;
  if (isOlder) reasons.push('mtime-before-birth');
  if (reasons.length === 0) return undefined;
  if (isOlder && mtimeNs % SECOND_NS === 0n) reasons.push('whole-seconds');
  if (isOlder && ctimeNs > birthNs + LATER_NS) reasons.push('set-after-creation');
  if (isOlder && moments.containerNs !== undefined && mtimeNs < moments.containerNs) {
    reasons.push('mtime-before-container');
  }
  const severity = restored ? 'high' : impossible || isOlder ? 'medium' : 'low';
  return { kind: 'timestomped', severity, reasons };
}

/** True when only many others of the same moment can tell whether an archive was unpacked. */
export function mayBeUnpacked({ reasons }: Judgement): boolean {
  return reasons[0] === 'mtime-before-birth';
}

/** Files whose times were set in the same ten seconds. */
export function burstOf({ ctimeNs }: Pick<Subject, 'ctimeNs'>): bigint {
  return ctimeNs / (10n * SECOND_NS);
}

/** Intruders disguise a few files; packages and archives bring more. */
export const MANY_IN_A_BURST = 20;
