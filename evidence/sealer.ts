import { ExhibitError, explain } from './error.ts';
import { draftSeal, envelopeOf, type Sealer, type SealFacts, type SealNotes, type Signer } from './seal.ts';
import { verifyMessage } from './signing-key.ts';

/** Who can say that bytes existed at a time; RFC 3161. */
export interface Timestamper {
  /** Addresses, without what may be secret in them, in the order in which they are asked. */
  readonly requestedFrom: readonly string[];
  /** The bytes of an answer over `message`, checked against it. Throws ExhibitError when no authority gave one. */
  stamp(message: Uint8Array, signal: AbortSignal): Promise<Uint8Array>;
}

export interface SealerParts {
  /** In the order in which their signatures stand. */
  readonly signers: readonly Signer[];
  /** Signs when none of them can, so that damage shows all the same. */
  readonly fallback?: Signer;
  readonly timestamp?: Timestamper;
}

/** All keys together, each of the two times that a seal may be signed; a KMS answers in some 20 ms. */
const SIGNING_MS = 5000;
/** All authorities together. With twice SIGNING_MS it stays below what a seal and its writing are given. */
const STAMPING_MS = 10_000;
/** Of an error's words: a line for a person, in bytes that everybody keeps for years. */
const MAX_WHY_CHARS = 300;

/**
 * Seals with all keys that can sign within a bounded time; those that cannot are named in the statement, and so is an authority
 * that gave no timestamp. Throws ExhibitError `capture-failed` when no key could sign, the fallback included.
 */
export function createSealer(given: SealerParts | Signer): Sealer {
  const parts: SealerParts = 'sign' in given ? { signers: [given] } : given;
  const first = parts.signers[0] ?? parts.fallback;
  if (first === undefined) throw new ExhibitError('internal', 'a sealer without any key');
  return {
    keyId: first.keyId,
    async seal(facts, signal) {
      const notes: string[] = [];
      const missing = new Map<Signer, string>();
      const { timestamp } = parts;
      if (timestamp === undefined) return { envelope: await signed(facts, parts, missing, {}, notes, signal), notes };
      const requestedFrom = [...timestamp.requestedFrom];
      const asked = await signed(facts, parts, missing, { timestamp: { requestedFrom } }, notes, signal);
      try {
        const stamping = AbortSignal.any([signal, AbortSignal.timeout(STAMPING_MS)]);
        const token = await until(timestamp.stamp(asked, stamping), stamping);
        return { envelope: asked, timestamp: token, notes };
      } catch (error) {
        const why = brief(error);
        notes.push(`no timestamp: ${why}`);
        const without = { timestamp: { requestedFrom, missing: why } };
        return { envelope: await signed(facts, parts, missing, without, notes, signal), notes };
      }
    },
  };
}

/**
 * Signs until everybody whom the statement names has signed it: whoever fails is moved to `missing`, and the others sign the
 * statement that says so.
 */
async function signed(
  facts: SealFacts,
  { signers, fallback }: SealerParts,
  missing: Map<Signer, string>,
  said: SealNotes,
  notes: string[],
  signal: AbortSignal,
): Promise<Uint8Array> {
  const signing = AbortSignal.any([signal, AbortSignal.timeout(SIGNING_MS)]);
  for (;;) {
    const able = signers.filter((signer) => !missing.has(signer));
    if (able.length === 0 && fallback !== undefined && !missing.has(fallback)) able.push(fallback);
    if (able.length === 0) {
      throw new ExhibitError('capture-failed', `no key could sign the bundle: ${[...missing.values()].join('; ')}`);
    }
    const absent = [...missing].map(([{ keyId }, why]) => ({ keyId, why }));
    const draft = draftSeal(facts, able, { ...said, ...(absent.length === 0 ? {} : { missing: absent }) });
    const answers = await Promise.allSettled(able.map((signer) => signature(signer, draft.message, signing)));
    answers.forEach((answer, index) => {
      const signer = able[index];
      if (answer.status === 'fulfilled' || signer === undefined) return;
      missing.set(signer, brief(answer.reason));
      notes.push(`key ${signer.keyId} could not sign: ${brief(answer.reason)}`);
    });
    const signatures = answers.flatMap((answer) => (answer.status === 'fulfilled' ? [answer.value] : []));
    if (signatures.length === able.length) return envelopeOf(draft, signatures);
  }
}

/** An alias of a KMS may have moved to another key since the start: what the known key did not sign is no signature. */
async function signature(signer: Signer, message: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
  const bytes = await until(signer.sign(message, signal), signal);
  if (verifyMessage(signer.publicKey, message, bytes)) return bytes;
  throw new ExhibitError('capture-failed', 'what it signed does not verify with its public key');
}

/** Rejects with the signal's reason, however long `work` takes. */
async function until<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  if (signal.aborted) {
    // A key in memory signs at once, however late it is.
    const late = Symbol('late');
    const outcome = await Promise.race([work, new Promise<typeof late>((resolve) => setImmediate(resolve, late))]);
    if (outcome === late) throw signal.reason;
    return outcome as T;
  }
  const { promise, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([work, promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

function brief(error: unknown): string {
  const words = explain(error);
  return words.length <= MAX_WHY_CHARS ? words : `${words.slice(0, MAX_WHY_CHARS - 1)}…`;
}
