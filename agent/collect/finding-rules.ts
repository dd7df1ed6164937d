import type { FindingReason, Severity } from '../../evidence/file-finding.ts';
import { deviceNumbers } from '../host/directory.ts';
import { judgeName } from './finding-names.ts';
import { logPlace, persistencePlace, systemPlace, writablePlace } from './finding-places.ts';
import { contentDiffers, type Judgement, type Moments, runsAs, type Subject } from './finding-subject.ts';
import { judgeTimes } from './finding-times.ts';

/**
 * Everything the rules say about one file. Pure, and cheap where nothing is to be said.
 * `executable-not-in-image` is only a suspicion here: whoever has the image looks for the digest.
 */
export function judge(subject: Subject, moments: Moments): Judgement[] {
  const { change, kind, path } = subject;
  if (change === 'unchanged' || change === 'opaque' || change === 'deleted') return NOTHING;
  const text = path.toString('latin1');
  const found: Array<Judgement | undefined> = [];
  if (kind === 'file') found.push(...judgeFile(subject, text, moments));
  if (kind === 'file' || kind === 'symlink') found.push(...judgePlace(subject, text));
  if (change === 'added' || change === undefined) found.push(judgeName(path, text));
  if (kind === 'character-device' || kind === 'block-device') found.push(judgeDevice(subject));
  const said = found.filter((one) => one !== undefined);
  return change === undefined ? said.map(withoutLower) : said;
}

const NOTHING: Judgement[] = [];

function withoutLower({ kind, reasons }: Judgement): Judgement {
  return { kind, severity: 'low', reasons: [...reasons, 'lower-layers-unknown'] };
}

function judgeFile(subject: Subject, text: string, moments: Moments): Array<Judgement | undefined> {
  const running = judgeRunning(subject);
  return [
    judgeTimes(subject, moments),
    judgeSetId(subject),
    judgeCapability(subject),
    running && judgeWritable(running, writableReasons(subject, text)),
    running,
    judgeSameSize(subject),
  ];
}

const SETUID = 0o4000;
const SETGID = 0o2000;
const GROUP_EXECUTE = 0o010;

function judgeSetId(subject: Subject): Judgement | undefined {
  const { mode, lower } = subject;
  const setgid = SETGID | GROUP_EXECUTE;
  const isUser = (mode & SETUID) !== 0;
  // Without the right to execute it means mandatory locking, or nothing: inode(7).
  const isGroup = (mode & setgid) === setgid;
  if (!isUser && !isGroup) return undefined;
  const before = lower?.kind === 'file' ? Number(lower.mode) : 0;
  const had = (!isUser || (before & SETUID) !== 0) && (!isGroup || (before & setgid) === setgid);
  const isOther = contentDiffers(subject) === true;
  if (had && !isOther) return undefined;
  const reasons: FindingReason[] = [];
  if (isUser) reasons.push('setuid');
  if (isGroup) reasons.push('setgid');
  if (had) reasons.push('content-changed');
  return { kind: 'set-id', severity: isUser && subject.uid === 0n ? 'high' : 'medium', reasons };
}

function judgeCapability(subject: Subject): Judgement | undefined {
  const { capability, lower } = subject;
  if (capability === undefined) return undefined;
  const had = lower?.capability?.equals(capability) === true;
  const isOther = contentDiffers(subject) === true;
  if (had && !isOther) return undefined;
  return {
    kind: 'file-capability',
    severity: 'high',
    reasons: had ? ['capability', 'content-changed'] : ['capability'],
  };
}

/** Content that can run and that this path of the image does not have. */
function judgeRunning(subject: Subject): Judgement | undefined {
  const { mode, sizeBytes, change } = subject;
  if (sizeBytes === 0n || change === 'metadata') return undefined;
  const form = runsAs(subject.head());
  const mayExecute = (mode & 0o111) !== 0;
  if (form === undefined && !mayExecute) return undefined;
  const reasons: FindingReason[] = form === undefined ? [] : [form];
  if (mayExecute) reasons.push('execute-permission');
  return { kind: 'executable-not-in-image', severity: form === undefined ? 'low' : 'medium', reasons };
}

function writableReasons({ place }: Subject, text: string): FindingReason[] {
  const known = writablePlace(text)?.reason;
  const reasons: FindingReason[] = known === undefined ? [] : [known];
  if (place.memory && known !== 'memory-place') reasons.push('memory-place');
  if (place.worldWritable) reasons.push('world-writable-folder');
  return reasons;
}

function judgeWritable({ reasons }: Judgement, places: readonly FindingReason[]): Judgement | undefined {
  if (places.length === 0) return undefined;
  const severity = reasons.includes('elf') ? 'high' : reasons.includes('script') ? 'medium' : 'low';
  return { kind: 'executable-in-writable-place', severity, reasons: [...reasons, ...places] };
}

function judgeSameSize(subject: Subject): Judgement | undefined {
  const { lower, sizeBytes, mtimeNs } = subject;
  if (lower === undefined || lower.kind !== 'file' || lower.sizeBytes !== sizeBytes) return undefined;
  if (contentDiffers(subject) !== true) return undefined;
  const isKept = lower.mtimeNs === mtimeNs;
  const reasons: FindingReason[] = isKept ? ['content-changed', 'mtime-kept'] : ['content-changed'];
  return { kind: 'same-size-edit', severity: isKept ? 'high' : 'low', reasons };
}

function judgePlace(subject: Subject, text: string): Array<Judgement | undefined> {
  const { change } = subject;
  const persistence = change === 'metadata' ? undefined : persistencePlace(text);
  return [
    judgeSystem(subject, text),
    persistence && { kind: 'persistence', severity: persistence.severity, reasons: [persistence.reason] },
    judgeLog(subject, text),
  ];
}

function judgeSystem(subject: Subject, text: string): Judgement | undefined {
  const { change, lower } = subject;
  if (lower === undefined || (change !== 'modified' && change !== 'metadata')) return undefined;
  const isOther = contentDiffers(subject) === true;
  const isRegranted =
    (Number(lower.mode) & 0o7777) !== subject.mode || lower.uid !== subject.uid || lower.gid !== subject.gid;
  if (!isOther && !isRegranted) return undefined;
  const place = systemPlace(text);
  if (place === undefined) return undefined;
  const severity: Severity = isOther ? place.severity : 'medium';
  return {
    kind: 'system-file-changed',
    severity,
    reasons: isOther ? [place.reason, 'content-changed'] : [place.reason, 'mode-or-owner'],
  };
}

const NOTHING_DEVICE = Buffer.from('/dev/null');

function judgeLog({ kind, linkPath, lower, sizeBytes, change }: Subject, text: string): Judgement | undefined {
  const leadsNowhere = kind === 'symlink' && linkPath?.equals(NOTHING_DEVICE) === true;
  const isEmptied = kind === 'file' && sizeBytes === 0n && lower?.kind === 'file' && lower.sizeBytes > 0n;
  if (change === 'metadata' || (!leadsNowhere && !isEmptied)) return undefined;
  const place = logPlace(text);
  if (place === undefined) return undefined;
  return {
    kind: 'log-silenced',
    severity: leadsNowhere ? 'high' : 'medium',
    reasons: [place.reason, leadsNowhere ? 'link-to-nothing' : 'emptied'],
  };
}

/** Documentation/admin-guide/devices.txt: 1:1 mem, 1:2 kmem, 1:4 port, 1:11 kmsg; the others are as config-linux.md has them. */
const MEMORY_DEVICES = new Set(['1:1', '1:2', '1:4', '1:11']);
const USUAL_DEVICES = new Set(['1:3', '1:5', '1:7', '1:8', '1:9', '5:0', '5:1', '5:2']);

function judgeDevice({ kind, rdev, change }: Subject): Judgement | undefined {
  if (change === 'metadata') return undefined;
  const { major, minor } = deviceNumbers(rdev);
  const number = `${major}:${minor}`;
  if (kind === 'block-device') return { kind: 'device-node', severity: 'high', reasons: ['block-device'] };
  if (MEMORY_DEVICES.has(number)) return { kind: 'device-node', severity: 'high', reasons: ['memory-device'] };
  if (USUAL_DEVICES.has(number)) return { kind: 'device-node', severity: 'low', reasons: ['usual-device'] };
  return { kind: 'device-node', severity: 'medium', reasons: ['other-device'] };
}
