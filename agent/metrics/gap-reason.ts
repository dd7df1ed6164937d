import type { ArtifactRecord, Gap } from '../../evidence/manifest.ts';

/** Why something was not captured, in few words: the manifest has the rest. */
export const GAP_REASONS = [
  /** It ended or was removed while it was read. */
  'gone',
  'denied',
  /** The kernel or the device could not give the bytes. */
  'unreadable',
  /** No room: memory, a file system, descriptors. */
  'no-room',
  'timeout',
  'not-supported',
  'other-errno',
  /** A limit, a policy, something damaged: no call of the kernel failed. */
  'no-errno',
  /** Beyond the gaps that a manifest lists one by one. */
  'not-listed',
] as const;
export type GapReason = (typeof GAP_REASONS)[number];

const BY_ERRNO: Readonly<Record<string, GapReason>> = {
  ENOENT: 'gone',
  ESRCH: 'gone',
  ENXIO: 'gone',
  ESTALE: 'gone',
  EACCES: 'denied',
  EPERM: 'denied',
  EIO: 'unreadable',
  EFAULT: 'unreadable',
  EHWPOISON: 'unreadable',
  EUCLEAN: 'unreadable',
  ENOMEM: 'no-room',
  ENOSPC: 'no-room',
  EDQUOT: 'no-room',
  EMFILE: 'no-room',
  ENFILE: 'no-room',
  ENOBUFS: 'no-room',
  ETIMEDOUT: 'timeout',
  EOPNOTSUPP: 'not-supported',
  ENOTSUP: 'not-supported',
  ENOSYS: 'not-supported',
  EINVAL: 'not-supported',
};

function gapReason({ errno }: Pick<Gap, 'errno'>): GapReason {
  if (errno === undefined) return 'no-errno';
  return (Object.hasOwn(BY_ERRNO, errno) ? BY_ERRNO[errno] : undefined) ?? 'other-errno';
}

/** How many gaps of an artifact have which reason. Pure. */
export function gapCounts({
  gaps,
  gapCount,
}: Pick<ArtifactRecord, 'gaps' | 'gapCount'>): ReadonlyMap<GapReason, number> {
  const counts = new Map<GapReason, number>();
  const add = (reason: GapReason, count: number) => counts.set(reason, (counts.get(reason) ?? 0) + count);
  for (const gap of gaps) add(gapReason(gap), 1);
  if (gapCount > gaps.length) add('not-listed', gapCount - gaps.length);
  return counts;
}
