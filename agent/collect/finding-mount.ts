import type { FindingKind, FindingReason, Severity } from '../../evidence/file-finding.ts';
import { nodePlace, persistencePlace, systemPlace } from './finding-places.ts';
import { judge } from './finding-rules.ts';
import type { Judgement, Moments, Subject } from './finding-subject.ts';

/**
 * The rules for files on a mount. There is no image below to compare with, and much of what lies there is somebody's data, so
 * what is a finding in the writable layer may be none here, or weigh less; what reaches the node weighs more. Pure.
 */

/**
 * Who puts things there. `pod`: the containers of the pod alone, and it goes with them. `data`: anybody, for long. `node`: the
 * node itself. `kubelet`: what kubelet writes for the API server.
 */
export type Origin = 'pod' | 'data' | 'node' | 'kubelet';

export interface MountFacts {
  readonly origin: Origin;
  readonly memory: boolean;
  /** For this container, in every place where it has these files. */
  readonly readOnly: boolean;
  readonly noexec: boolean;
  readonly nosuid: boolean;
  readonly nodev: boolean;
}

export interface MountSubject extends Subject {
  /** Where the node has it, below its root; of `node` alone. */
  readonly nodePath: Buffer | undefined;
}

export interface MountMoments extends Moments {
  /** When the pod was made; without a pod the container. Undefined where nobody says. */
  readonly sinceNs: bigint | undefined;
}

export function judgeOnMount(subject: MountSubject, moments: MountMoments, mount: MountFacts): Judgement[] {
  // ctime cannot be set: what was changed before the pod was there is not its doing.
  const isOlder = moments.sinceNs === undefined || subject.ctimeNs < moments.sinceNs;
  if (mount.origin === 'node' && (isOlder || mount.readOnly)) return NOTHING;
  const said =
    subject.nodePath === undefined ? judge(subject, moments) : judgeOnNode(subject, subject.nodePath, moments);
  if (said.length === 0) return said;
  const weigh = (one: Judgement): Judgement | undefined =>
    GRANTS.has(one.kind) ? weighGrant(one, mount, isOlder) : weighOther(one, subject, mount, isOlder);
  return said.map(weigh).filter((one) => one !== undefined);
}

const NOTHING: Judgement[] = [];

/** What a file's path means there, and what it means in the container as well: a program of either may look for it. */
function judgeOnNode(subject: Subject, nodePath: Buffer, moments: Moments): Judgement[] {
  const said = judge({ ...subject, path: nodePath }, moments).map((one) => (RUNS.has(one.kind) ? one : onNode(one)));
  if (subject.kind !== 'file' && subject.kind !== 'symlink') return said;
  const text = nodePath.toString('latin1');
  const place = nodePlace(text);
  if (place !== undefined)
    said.push(onNode({ kind: 'persistence', severity: place.severity, reasons: [place.reason] }));
  const system = systemPlace(text);
  // The node's own DHCP client and resolver write these.
  if (system !== undefined && system.reason !== 'name-resolution') {
    said.push(onNode({ kind: 'system-file-changed', severity: system.severity, reasons: [system.reason] }));
  }
  const inside = persistencePlace(subject.path.toString('latin1'));
  if (inside !== undefined && !said.some(({ kind }) => kind === 'persistence')) {
    said.push({ kind: 'persistence', severity: inside.severity, reasons: [inside.reason] });
  }
  return said;
}

/** Code that the node runs is out of the container. */
const ESCAPES: ReadonlySet<FindingReason> = new Set(['cron', 'unit', 'ssh-key', 'preload', 'static-pod']);

function onNode({ kind, severity, reasons }: Judgement): Judgement {
  const escapes = kind === 'persistence' && reasons.some((reason) => ESCAPES.has(reason));
  return { kind, severity: escapes ? 'high' : severity, reasons: [...reasons, 'on-node'] };
}

/** They give rights to whoever finds them, whoever left them there. */
const GRANTS: ReadonlySet<FindingKind> = new Set(['set-id', 'file-capability', 'device-node']);
const RUNS: ReadonlySet<FindingKind> = new Set(['executable-in-writable-place', 'executable-not-in-image']);

function weighGrant(one: Judgement, mount: MountFacts, isOlder: boolean): Judgement | undefined {
  if (one.reasons.includes('usual-device')) return undefined;
  const isOff = one.kind === 'device-node' ? mount.nodev : mount.nosuid;
  const off = isOff ? because(one, one.kind === 'device-node' ? 'mounted-nodev' : 'mounted-nosuid', 1) : one;
  const aged = isOlder && mount.origin === 'data' ? because(off, 'older-than-pod', 1) : off;
  return mount.readOnly ? because(aged, 'mounted-read-only', 2) : aged;
}

function weighOther(one: Judgement, subject: Subject, mount: MountFacts, isOlder: boolean): Judgement | undefined {
  const { origin, readOnly } = mount;
  if (origin === 'kubelet' || (origin === 'data' && (readOnly || isOlder))) return undefined;
  const weighed = weighKind(one, subject, mount);
  return weighed && readOnly ? because(weighed, 'mounted-read-only', 1) : weighed;
}

function weighKind(one: Judgement, subject: Subject, mount: MountFacts): Judgement | undefined {
  const { origin, memory, noexec } = mount;
  switch (one.kind) {
    // Restored, unpacked and rotated files are what volumes are full of.
    case 'timestomped':
      return origin === 'node' ? undefined : { ...one, severity: 'low' };
    case 'executable-in-writable-place':
    case 'executable-not-in-image': {
      const weighed =
        one.kind === 'executable-not-in-image' ? weighUnknown(one, mount) : weighPlace(one, subject, mount);
      return weighed && noexec ? because(weighed, 'mounted-noexec', memory ? 0 : 1) : weighed;
    }
    case 'hidden-name':
      return origin === 'pod' ? one : { ...one, severity: 'low' };
    case 'persistence':
    case 'log-silenced':
      return origin === 'data' ? lowered(one, 1) : one;
    default:
      return one;
  }
}

/** Places that are made for what is short-lived. That anybody may write is ordinary for a volume: kubelet makes emptyDir so. */
function weighPlace(one: Judgement, subject: Subject, { origin }: MountFacts): Judgement | undefined {
  const { reasons } = one;
  const isElf = reasons.includes('elf');
  const isShortLived = reasons.includes('memory-place') || reasons.includes('temporary-place');
  if (!isElf && !reasons.includes('script')) {
    // An x bit alone is a umask; but of the node's files no content may have been taken that could say more.
    const isUnread = origin === 'node' && subject.head() === undefined;
    return isUnread && isShortLived ? { ...one, severity: 'low' } : undefined;
  }
  if (isShortLived) return one;
  return isElf && origin === 'pod' ? { ...one, severity: 'medium' } : undefined;
}

/** Init containers bring programs, and workspaces are full of them: where it is no memory it says little. */
function weighUnknown(one: Judgement, { memory }: MountFacts): Judgement | undefined {
  const isElf = one.reasons.includes('elf');
  if (memory) return isElf || one.reasons.includes('script') ? one : undefined;
  return isElf ? { ...one, severity: 'low' } : undefined;
}

function because(one: Judgement, reason: FindingReason, steps: 0 | 1 | 2): Judgement {
  return { ...lowered(one, steps), reasons: [...one.reasons, reason] };
}

const STEPS: Readonly<Record<Severity, readonly [Severity, Severity, Severity]>> = {
  high: ['high', 'medium', 'low'],
  medium: ['medium', 'low', 'low'],
  low: ['low', 'low', 'low'],
};

function lowered(one: Judgement, steps: 0 | 1 | 2): Judgement {
  return { ...one, severity: STEPS[one.severity][steps] };
}
