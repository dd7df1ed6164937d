import { createHash, randomBytes } from 'node:crypto';
import { ExhibitError, explain } from '../../evidence/error.ts';
import { MAX_TIMESTAMP_BYTES } from '../../evidence/seal.ts';
import type { Timestamper } from '../../evidence/sealer.ts';

/** Time-stamping authorities over HTTP: RFC 3161, 3.4. The first that gives a good answer is enough. */
export interface AuthoritiesOptions {
  /** http or https, in the order in which they are asked. */
  readonly urls: readonly string[];
  /** For each, from the connection to the last byte. */
  readonly timeoutMs: number;
}

/** A timestamp is over a digest, and so tells the authority nothing but that somebody has something. */
export function openAuthorities({ urls, timeoutMs }: AuthoritiesOptions): Timestamper {
  return {
    requestedFrom: urls.map(shownUrl),
    async stamp(message, signal) {
      const failures: string[] = [];
      for (const url of urls) {
        signal.throwIfAborted();
        try {
          return await ask(url, message, AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]));
        } catch (error) {
          failures.push(`${shownUrl(url)}: ${explain(error)}`);
        }
      }
      throw new ExhibitError('capture-failed', failures.join('; '));
    },
  };
}

/** An address without what may be secret in it: a name, a password, a token in the query. */
export function shownUrl(url: string): string {
  const { origin, pathname } = new URL(url);
  return `${origin}${pathname}`;
}

/** RFC 3161, 2.4.1: large enough that no earlier answer has it. */
const NONCE_BYTES = 16;

async function ask(url: string, message: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
  const { encodeTimestampRequest, readTimestamp } = await import('../../evidence/timestamp.ts');
  const digest = createHash('sha256').update(message).digest();
  const nonce = randomBytes(NONCE_BYTES);
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/timestamp-query', accept: 'application/timestamp-reply' },
    body: encodeTimestampRequest(digest, nonce),
    // Where evidence is spoken of is the configuration's to say, not a server's.
    redirect: 'error',
    signal,
  });
  const bytes = await readAtMost(response, MAX_TIMESTAMP_BYTES);
  if (response.status !== 200) throw new ExhibitError('capture-failed', `it answered with status ${response.status}`);
  if (bytes === undefined)
    throw new ExhibitError('capture-failed', `its answer is larger than ${MAX_TIMESTAMP_BYTES} bytes`);
  const answer = readTimestamp(bytes);
  if (answer.sha256 !== digest.toString('hex'))
    throw new ExhibitError('capture-failed', 'its answer is of other bytes');
  if (answer.nonce === undefined || BigInt(`0x${answer.nonce}`) !== BigInt(`0x${nonce.toString('hex')}`)) {
    throw new ExhibitError('capture-failed', 'its answer is to another request: it has another nonce');
  }
  return bytes;
}

/** Undefined when there is more. */
async function readAtMost(response: Response, limitBytes: number): Promise<Buffer | undefined> {
  const pieces: Uint8Array[] = [];
  let total = 0;
  // Leaving the loop cancels the rest.
  for await (const piece of response.body ?? []) {
    total += piece.length;
    if (total > limitBytes) return undefined;
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}
