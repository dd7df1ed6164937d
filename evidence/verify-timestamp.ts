import { explain } from './error.ts';
import type { Findings } from './findings.ts';
import { MANIFEST_OBJECT, TIMESTAMP_OBJECT } from './layout.ts';
import type { CheckedSeal } from './seal.ts';
import type { Trust } from './trust.ts';

/** What an authority says about the seal, and whether the reader believes it. */
export interface JudgedTimestamp {
  /** RFC 3339 in UTC: the seal existed then. */
  readonly time: string;
  /** Milliseconds around `time`, where the authority says so. */
  readonly accuracyMs?: number;
  /** The name by which the reader trusts the authority, or else what its certificate calls it. */
  readonly authority: string;
  readonly trusted: boolean;
  /** OID of the rules by which the authority says that it works. */
  readonly policy: string;
  /** Hexadecimal; the authority knows its timestamp by it. */
  readonly serial: string;
  /** `time` less the manifest's end: the time that sealing took, and how far the node's clock was behind. Absent without a manifest. */
  readonly afterEndMs?: number;
  readonly words: string;
}

/** genTime is in whole seconds unless the authority is better than that. */
const UNIT_MS = 1000;
/** A seal is asked for at once when the capture ends; evidence that waited for a sink is sealed later. */
const LATE_MS = 5 * 60_000;

const WHERE = { object: TIMESTAMP_OBJECT };

/** True when `manifest.dsse.json.tsr` belongs to the bundle; without a readable seal nobody can tell. */
export function expectsTimestamp(seal: CheckedSeal | undefined): boolean {
  if (seal === undefined) return true;
  const { timestamp } = seal.statement.predicate;
  return timestamp !== undefined && timestamp.missing === undefined;
}

/**
 * The answer against the seal's stored bytes, then its signature, then its certificate's way to a root that is trusted. `bytes`
 * are absent when there is no such object, `sealSha256` when there is no seal.
 */
export async function judgeTimestamp(
  bytes: Uint8Array | undefined,
  sealed: { readonly seal?: CheckedSeal | undefined; readonly sha256?: string | undefined },
  trust: Trust,
  findings: Findings,
): Promise<JudgedTimestamp | undefined> {
  if (bytes === undefined) {
    sayMissing(sealed.seal, findings);
    return undefined;
  }
  // An answer that the seal does not speak of is one of the objects that nobody listed.
  if (!expectsTimestamp(sealed.seal) || sealed.sha256 === undefined) return undefined;
  const invalid = (why: string) => findings.add('error', 'timestamp-invalid', `${TIMESTAMP_OBJECT}: ${why}`, WHERE);
  const [{ readTimestamp }, { chainToRoot, nameOf }] = await Promise.all([
    import('./timestamp.ts'),
    import('./timestamp-chain.ts'),
  ]);
  try {
    const timestamp = readTimestamp(bytes);
    if (timestamp.sha256 !== sealed.sha256) {
      invalid('it is of other bytes than this seal’s');
      return undefined;
    }
    const { genTime, accuracyMs, signer, certificates, policy, serial } = timestamp;
    const chain = chainToRoot(signer, certificates, trust.timestampAuthorities, genTime);
    const authority = 'root' in chain ? chain.root.name : nameOf(signer);
    const time = genTime.toISOString();
    const facts = { time, authority, policy, serial, ...(accuracyMs === undefined ? {} : { accuracyMs }) };
    const about = accuracyMs === undefined ? '' : ` within ${accuracyMs} ms`;
    if ('root' in chain) {
      return { ...facts, trusted: true, words: `${time}${about} by ${authority}, which you trust` };
    }
    sayUntrusted(authority, chain.why, trust, findings);
    return { ...facts, trusted: false, words: `${time}${about} by ${authority}, which nothing here vouches for` };
  } catch (error) {
    invalid(explain(error));
    return undefined;
  }
}

function sayMissing(seal: CheckedSeal | undefined, findings: Findings): void {
  const asked = seal?.statement.predicate.timestamp;
  if (asked === undefined) return;
  const from = asked.requestedFrom.join(', ');
  if (asked.missing === undefined) {
    const message = `the seal was stamped by one of ${from}, and there is no ${TIMESTAMP_OBJECT}: it was removed or never stored`;
    findings.add('error', 'timestamp-missing', message, WHERE);
  } else {
    const message = `no authority gave a timestamp when the bundle was sealed; asked ${from}: ${asked.missing}`;
    findings.add('warning', 'timestamp-unavailable', message, WHERE);
  }
}

function sayUntrusted(authority: string, why: string, trust: Trust, findings: Findings): void {
  if (trust.timestampAuthorities.length > 0) {
    const message = `the timestamp is by ${authority}, which leads to no authority that you trust: ${why}`;
    findings.add('error', 'timestamp-untrusted', message, WHERE);
  } else {
    const message = `the timestamp is by ${authority}, which nothing here vouches for: name its root to check that`;
    findings.add('warning', 'timestamp-untrusted', message, WHERE);
  }
}

/** The manifest's end by the node's clock, against the authority's. Nothing can be stamped before it exists. */
export function compareClocks(timestamp: JudgedTimestamp, finishedAt: string, findings: Findings): JudgedTimestamp {
  const afterEndMs = Date.parse(timestamp.time) - Date.parse(finishedAt);
  if (!Number.isFinite(afterEndMs)) return timestamp;
  const where = { object: MANIFEST_OBJECT };
  if (afterEndMs + (timestamp.accuracyMs ?? 0) + UNIT_MS < 0) {
    const message =
      `by the node’s clock the capture ended ${-afterEndMs} ms after ${timestamp.authority} had stamped it: ` +
      'that clock was ahead by at least so much';
    findings.add('warning', 'timestamp-clock', message, where);
  } else if (afterEndMs > LATE_MS) {
    const message =
      `the seal was stamped ${afterEndMs} ms after the capture’s end by the node’s clock: ` +
      'the bundle waited to be sealed, or that clock was behind';
    findings.add('info', 'timestamp-clock', message, where);
  }
  return { ...timestamp, afterEndMs };
}
