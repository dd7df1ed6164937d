import type { Subject } from '../../../agent/collect/finding-subject.ts';

/** When it was made, written and changed: a day after its container, and a day ago. */
export const T = 1_770_000_000_123_456_789n;
export const TEXT = Buffer.from('just words');

/** A file about which there is nothing to be said, but for its path. */
export const INNOCENT: Omit<Subject, 'path'> = {
  kind: 'file',
  mode: 0o644,
  uid: 0n,
  gid: 0n,
  sizeBytes: 10n,
  mtimeNs: T,
  ctimeNs: T,
  birthNs: T,
  rdev: 0n,
  linkPath: undefined,
  capability: undefined,
  sha256: 'a',
  head: () => TEXT,
  change: 'added',
  lower: undefined,
  place: { worldWritable: false, memory: false },
};
