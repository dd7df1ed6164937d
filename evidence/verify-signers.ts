import type { Findings } from './findings.ts';
import { SEAL_OBJECT } from './layout.ts';
import type { CheckedSeal } from './seal.ts';
import type { KeyAlgorithm } from './signing-key.ts';
import type { Trust, TrustedKey } from './trust.ts';

/** One of those who signed, and what the reader thinks of him. */
export interface JudgedSigner {
  readonly keyId: string;
  readonly algorithm: KeyAlgorithm;
  readonly trusted: boolean;
  /** By which the reader's trust root calls the key. */
  readonly name?: string;
  readonly words: string;
}

/** When the seal was made, as far as anybody can say. */
export interface SealTime {
  readonly at: Date;
  /** `by the timestamp`, `by the node’s own clock`. */
  readonly source: string;
}

const WHERE = { object: SEAL_OBJECT };

/** In the order of the signatures. `time` is absent when there is neither a timestamp nor a manifest. */
export function judgeSigners(
  seal: CheckedSeal,
  trust: Trust,
  time: SealTime | undefined,
  findings: Findings,
): JudgedSigner[] {
  const byId = Map.groupBy(trust.keys, ({ keyId }) => keyId);
  const faults: string[] = [];
  const signers = seal.signers.map(({ keyId, algorithm }): JudgedSigner => {
    const [known] = byId.get(keyId) ?? [];
    const one = { keyId, algorithm, ...(known?.name === undefined ? {} : { name: known.name }) };
    const said = `signed by key ${keyId}${known?.name === undefined ? '' : ` (${known.name})`}`;
    if (known === undefined) {
      const why = trust.keys.length > 0 ? 'which is none of the keys you trust' : 'which nothing here vouches for';
      return { ...one, trusted: false, words: `${said}, ${why}` };
    }
    // A key may be listed with several validities; one of them is enough.
    const outside = byId.get(keyId)?.map((key) => outsideValidity(key, time)) ?? [];
    if (outside.includes(undefined)) return { ...one, trusted: true, words: `${said}, which you trust` };
    faults.push(`${said}, ${outside[0]}`);
    return { ...one, trusted: false, words: `${said}, ${outside[0]}` };
  });
  say(signers, faults, trust, findings);
  sayMissing(seal, trust, findings);
  return signers;
}

function outsideValidity({ validFrom, validUntil }: TrustedKey, time: SealTime | undefined): string | undefined {
  if (validFrom === undefined && validUntil === undefined) return undefined;
  if (time === undefined) return 'which you trust for a time only, and nothing says when it signed';
  const when = `${time.at.toISOString()}, when it signed ${time.source}`;
  if (validFrom !== undefined && time.at < validFrom) {
    return `which you trust from ${validFrom.toISOString()} only, after ${when}`;
  }
  if (validUntil !== undefined && time.at > validUntil) {
    return `which you trust until ${validUntil.toISOString()} only, before ${when}`;
  }
  return undefined;
}

function say(signers: readonly JudgedSigner[], faults: readonly string[], trust: Trust, findings: Findings): void {
  const trusted = signers.filter((signer) => signer.trusted).length;
  const required = trust.requiredSignatures ?? 1;
  for (const fault of faults) {
    findings.add(trusted >= required ? 'warning' : 'error', 'signer-expired', `the bundle is ${fault}`, WHERE);
  }
  const first = signers[0];
  if (first === undefined || trusted >= required) return;
  if (trust.keys.length === 0) {
    const message = `the bundle is ${first.words}: name a trusted key to check that`;
    findings.add('warning', 'signer-unvouched', message, WHERE);
  } else if (trusted > 0) {
    const message = `${trusted} of the keys that you trust signed the bundle, and you want ${required} of them`;
    findings.add('error', 'signatures-too-few', message, WHERE);
  } else if (faults.length === 0) {
    findings.add('error', 'signer-untrusted', `the bundle is ${first.words}`, WHERE);
  }
}

/** The seal's own word, and so worth as much as those who signed it. */
function sayMissing(seal: CheckedSeal, trust: Trust, findings: Findings): void {
  for (const absent of seal.statement.predicate.missing ?? []) {
    const who = 'name' in absent ? `the key that the agent calls ${absent.name}` : keyWords(absent.keyId, trust);
    findings.add('warning', 'signer-missing', `${who} was to sign as well, and could not: ${absent.why}`, WHERE);
  }
}

function keyWords(keyId: string, trust: Trust): string {
  const known = trust.keys.find((key) => key.keyId === keyId);
  return `key ${keyId}${known === undefined ? '' : ` (${known.name ?? 'which you trust'})`}`;
}
