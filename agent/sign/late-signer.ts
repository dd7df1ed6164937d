import type { Logger } from 'pino';
import { explain, isExhibitError } from '../../evidence/error.ts';
import type { Signer } from '../../evidence/seal.ts';
import type { LateSigner } from '../../evidence/sealer.ts';
import type { Kms } from './kms.ts';

/** An agent that starts on a node in trouble must not wait long for a key: it is asked again when a bundle is sealed. */
const START_MS = 3000;

/**
 * A key in a KMS that may be away now; then it is asked for its public half again whenever a bundle is to be sealed, until it has
 * told it. An outage is logged once, and its end. Throws ExhibitError `config` for what no later question makes better.
 */
export async function openLateSigner(kms: Pick<Kms, 'signer'>, name: string, log?: Logger): Promise<LateSigner> {
  let known: Signer | undefined;
  let asked = false;
  const late: LateSigner = {
    name,
    get known() {
      return known;
    },
    async ask(signal) {
      if (known !== undefined) return known;
      // Two seals may ask at the same time: a key's public half is the same, and the first answer stays.
      const signer = await kms.signer(signal);
      if (known === undefined && asked) log?.info({ key: name, keyId: signer.keyId }, 'signing key is there now');
      known ??= signer;
      return known;
    },
  };
  try {
    await late.ask(AbortSignal.timeout(START_MS));
  } catch (error) {
    if (isExhibitError(error, 'config')) throw error;
    log?.warn(
      { key: name, error: explain(error) },
      'signing key is away: bundles are sealed without it, and say so, until it is there',
    );
  }
  asked = true;
  return late;
}
