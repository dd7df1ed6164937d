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

/** A key whose public half has to be asked for, and may not be known yet: a KMS that was away at the start. */
export interface LateSigner {
  /** As the configuration calls it. */
  readonly name: string;
  /** Once known, for good. */
  readonly known: Signer | undefined;
  /** Asks for it where it is not known. Throws ExhibitError when it is still away. */
  ask(signal: AbortSignal): Promise<Signer>;
}

export interface SealerParts {
  /** In the order in which their signatures stand. */
  readonly signers: readonly (Signer | LateSigner)[];
  /** Signs when none of them can, so that damage shows all the same. */
  readonly fallback?: Signer;
  readonly timestamp?: Timestamper;
}

/** All keys that are not known yet, each time that a bundle is sealed: two tries of a KMS that does not answer. */
const ASKING_MS = 3000;
/** All keys together, each of the two times that a seal may be signed; a KMS answers in some 20 ms. */
const SIGNING_MS = 5000;
/** All authorities together. With ASKING_MS and twice SIGNING_MS it stays below what a seal and its writing are given. */
const STAMPING_MS = 10_000;
/** Of an error's words: a line for a person, in bytes that everybody keeps for years. */
const MAX_WHY_CHARS = 300;

/**
 * Seals with all keys that can sign within a bounded time; those that cannot are named in the statement, and so is an authority
 * that gave no timestamp. Throws ExhibitError `capture-failed` when no key could sign, the fallback included.
 */
export function createSealer(given: SealerParts | Signer): Sealer {
  const parts: SealerParts = 'sign' in given ? { signers: [given] } : given;
  if (parts.signers.length === 0 && parts.fallback === undefined)
    throw new ExhibitError('internal', 'a sealer without any key');
  const forOneSeal = async (signal: AbortSignal) => sealerOf(parts, await askAll(parts.signers, signal));
  return {
    get keyId() {
      return firstOf(parts, knownOf(parts.signers)).keyId;
    },
    forOneSeal,
    seal: async (facts, signal) => (await forOneSeal(signal)).seal(facts, signal),
  };
}

/** The keys of one seal, and those that are not known while it is made. */
interface Ring {
  readonly signers: readonly Signer[];
  readonly unknown: readonly { readonly name: string; readonly why: string }[];
}

function knownOf(signers: SealerParts['signers']): Signer[] {
  return signers.flatMap((one) => ('sign' in one ? [one] : (one.known ?? [])));
}

function firstOf({ fallback }: SealerParts, known: readonly Signer[]): Signer {
  const first = known[0] ?? fallback;
  if (first === undefined) throw new ExhibitError('capture-failed', 'no key is known that could sign');
  return first;
}

/** A late key that turns out to be another's twin is no second key: a seal that names one twice is none. */
async function askAll(signers: SealerParts['signers'], signal: AbortSignal): Promise<Ring> {
  const asking = AbortSignal.any([signal, AbortSignal.timeout(ASKING_MS)]);
  const ring = { signers: new Map<string, Signer>(), unknown: [] as { name: string; why: string }[] };
  const answers = signers.map(async (one) => ({ one, signer: await ('sign' in one ? one : askLate(one, asking)) }));
  for (const { one, signer } of await Promise.all(answers)) {
    const name = 'name' in one ? one.name : '';
    if (typeof signer === 'string') ring.unknown.push({ name, why: signer });
    else if (!ring.signers.has(signer.keyId)) ring.signers.set(signer.keyId, signer);
    else if (name !== '') ring.unknown.push({ name, why: `it is key ${signer.keyId}, which is there already` });
  }
  return { signers: [...ring.signers.values()], unknown: ring.unknown };
}

/** Or why it is not known. */
async function askLate(late: LateSigner, signal: AbortSignal): Promise<Signer | string> {
  return late.known ?? (await until(late.ask(signal), signal).catch(brief));
}

function sealerOf(parts: SealerParts, ring: Ring): Sealer {
  return {
    keyId: firstOf(parts, ring.signers).keyId,
    async seal(facts, signal) {
      const notes = ring.unknown.map(({ name, why }) => `key ${name} could not sign: ${why}`);
      const missing = new Map<Signer, string>();
      const { timestamp, fallback } = parts;
      const sign = (said: SealNotes) => signed(facts, { ring, fallback, missing, notes }, said, signal);
      if (timestamp === undefined) return { envelope: await sign({}), notes };
      const requestedFrom = [...timestamp.requestedFrom];
      const asked = await sign({ timestamp: { requestedFrom } });
      try {
        const stamping = AbortSignal.any([signal, AbortSignal.timeout(STAMPING_MS)]);
        const token = await until(timestamp.stamp(asked, stamping), stamping);
        return { envelope: asked, timestamp: token, notes };
      } catch (error) {
        const why = brief(error);
        notes.push(`no timestamp: ${why}`);
        return { envelope: await sign({ timestamp: { requestedFrom, missing: why } }), notes };
      }
    },
  };
}

interface Signing {
  readonly ring: Ring;
  readonly fallback: Signer | undefined;
  /** Who failed, in this seal. */
  readonly missing: Map<Signer, string>;
  readonly notes: string[];
}

/**
 * Signs until everybody whom the statement names has signed it: whoever fails is moved to `missing`, and the others sign the
 * statement that says so.
 */
async function signed(
  facts: SealFacts,
  { ring, fallback, missing, notes }: Signing,
  said: SealNotes,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const signing = AbortSignal.any([signal, AbortSignal.timeout(SIGNING_MS)]);
  for (;;) {
    const able = ring.signers.filter((signer) => !missing.has(signer));
    if (able.length === 0 && fallback !== undefined && !missing.has(fallback)) able.push(fallback);
    const absent = [...[...missing].map(([{ keyId }, why]) => ({ keyId, why })), ...ring.unknown];
    if (able.length === 0) {
      const whys = absent.map(({ why }) => why).join('; ');
      throw new ExhibitError('capture-failed', `no key could sign the bundle: ${whys}`);
    }
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
