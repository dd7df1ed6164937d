import { randomBytes } from 'node:crypto';
import type { ClockOffset } from '../../evidence/custody.ts';
import { explain } from '../../evidence/error.ts';
import { preAuthEncoding } from '../../evidence/seal.ts';
import { verifyMessage } from '../../evidence/signing-key.ts';
import { openAuthorities, shownUrl } from './authorities.ts';
import { type ConfiguredKey, configuredKeys, openSigner, type SigningConfig } from './open.ts';

/** One key or authority that was tried; `why` it failed. */
export interface Trial {
  readonly name: string;
  readonly why?: string;
  /** How the node's clock stands to that of an authority that answered. */
  readonly clock?: ClockOffset;
}

/** No seal is of this type, so that a signature over it can vouch for nothing. */
const TRIAL_TYPE = 'application/vnd.exhibit.trial';
/** Longer than a seal waits for a key. */
const TRIAL_MS = 6000;
/** Most authorities cut their time to whole seconds. */
const GEN_TIME_MS = 1000;

/** Each configured key signs something that means nothing: only so the right to sign shows. */
export async function tryKeys(config: SigningConfig, signal: AbortSignal): Promise<Trial[]> {
  const until = AbortSignal.any([signal, AbortSignal.timeout(TRIAL_MS)]);
  return await Promise.all(configuredKeys(config).map(async (key) => trial(nameOf(key), () => trySigning(key, until))));
}

/** Each authority stamps a random number: only so a client certificate, a quota or a proxy shows. */
export async function tryAuthorities({ timestamp }: SigningConfig, signal: AbortSignal): Promise<Trial[]> {
  if (timestamp === undefined) return [];
  const { url: urls, timeoutMs } = timestamp;
  return await Promise.all(
    urls.map((url) =>
      trial(shownUrl(url), async () => {
        const sentAtMs = Date.now();
        const stamped = await openAuthorities({ urls: [url], timeoutMs }).stamp(randomBytes(32), signal);
        return { clock: await offsetOf(shownUrl(url), stamped, sentAtMs, Date.now()) };
      }),
    ),
  );
}

/** RFC 3161: genTime is of a second or finer, and as right as the answer's accuracy says. */
async function offsetOf(source: string, answer: Uint8Array, sentAtMs: number, gotAtMs: number): Promise<ClockOffset> {
  const { readTimestamp } = await import('../../evidence/timestamp.ts');
  const { genTime, accuracyMs = 0 } = readTimestamp(answer);
  const halfMs = Math.max(0, gotAtMs - sentAtMs) / 2;
  return {
    source,
    offsetMs: Math.round(genTime.getTime() - (sentAtMs + halfMs)),
    uncertaintyMs: Math.round(GEN_TIME_MS + accuracyMs + halfMs),
  };
}

async function trial(name: string, work: () => Promise<Omit<Trial, 'name'>>): Promise<Trial> {
  return await work().then(
    (more) => ({ name, ...more }),
    (error: unknown) => ({ name, why: explain(error) }),
  );
}

async function trySigning(key: ConfiguredKey, signal: AbortSignal): Promise<object> {
  const signer = await openSigner(key, signal);
  try {
    const message = preAuthEncoding(TRIAL_TYPE, randomBytes(32));
    if (verifyMessage(signer.publicKey, message, await signer.sign(message, signal))) return {};
    throw new Error('what it signed does not verify with its public key');
  } finally {
    signer[Symbol.dispose]?.();
  }
}

function nameOf(key: ConfiguredKey): string {
  return 'file' in key ? key.file : key.kms;
}
