import { createHash, randomBytes } from 'node:crypto';
import { generateSigner, type Signer } from '../../../evidence/seal.ts';
import { createSealer } from '../../../evidence/sealer.ts';
import { encodeTimestampRequest } from '../../../evidence/timestamp.ts';
import type { Authority } from '../../lab/tsa.ts';
import type { SampleBundle } from './sample-bundle.ts';
import { resealedBy } from './sealing.ts';

export const TSR = 'manifest.dsse.json.tsr';
export const SEAL = 'manifest.dsse.json';

export interface Stamped {
  readonly objects: Map<string, Buffer>;
  readonly signer: Signer;
}

/** `sample`, sealed again with a timestamp by this authority. */
export async function stampedBy(sample: SampleBundle, authority: Authority): Promise<Stamped> {
  const signer = generateSigner();
  const sealer = createSealer({
    signers: [signer],
    timestamp: {
      requestedFrom: ['http://tsa.example/'],
      stamp: async (message) => await answerOver(authority, message),
    },
  });
  return { objects: await resealedBy(sample, sealer), signer };
}

export function answerOver(authority: Authority, message: Uint8Array): Promise<Buffer> {
  const digest = createHash('sha256').update(message).digest();
  return authority.answer(encodeTimestampRequest(digest, randomBytes(8)));
}
