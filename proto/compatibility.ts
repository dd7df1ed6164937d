/** Which ends of a stream or a call go together: docs/compatibility.md. Pure. */

/** Of the stream between agent and controller, in `Hello` and `Welcome`. Raised only when an older peer would misunderstand. */
export const PROTOCOL = 1;

/** `near`: one minor version apart, which works and is tested. `far`: more than that, which nobody has tried. */
export type Skew = 'same' | 'near' | 'far' | 'unknown';

/** One end, as people call it: `agent`, `controller`. */
export interface End {
  readonly name: string;
  readonly version: string;
}

/** A release is MAJOR.MINOR.PATCH; what follows a minus or plus makes no difference here. */
const RELEASE = /^(\d{1,6})\.(\d{1,6})\.\d{1,6}(?:[-+][0-9A-Za-z.+-]*)?$/;

export function skewOf(one: string, other: string): Skew {
  const [a, b] = [releaseOf(one), releaseOf(other)];
  if (a === undefined || b === undefined) return 'unknown';
  if (a.major !== b.major) return 'far';
  const apart = Math.abs(a.minor - b.minor);
  return apart === 0 ? 'same' : apart === 1 ? 'near' : 'far';
}

/** What to tell people of two ends that are too far apart; undefined where they are not, or nobody can tell. */
export function apartWords(one: End, other: End): string | undefined {
  if (skewOf(one.version, other.version) !== 'far') return undefined;
  const [older, newer] = isOlder(one.version, other.version) ? [one, other] : [other, one];
  return (
    `the ${older.name} is ${older.version} and the ${newer.name} ${newer.version}, more than one minor version apart: ` +
    `update the ${older.name}`
  );
}

function isOlder(one: string, other: string): boolean {
  const [a, b] = [releaseOf(one), releaseOf(other)];
  if (a === undefined || b === undefined) return false;
  return a.major === b.major ? a.minor < b.minor : a.major < b.major;
}

function releaseOf(version: string): { readonly major: number; readonly minor: number } | undefined {
  const [, major, minor] = RELEASE.exec(version) ?? [];
  return major === undefined || minor === undefined ? undefined : { major: Number(major), minor: Number(minor) };
}
