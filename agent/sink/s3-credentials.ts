import { setTimeout as sleep } from 'node:timers/promises';
import { errorNames } from './s3-errors.ts';

/** A provider that gave credentials which have expired may do so once more from a cache of its own; a third time is its fault. */
export const MAX_RENEWALS = 2;
/** Before a provider that failed is asked again: the Pod Identity agent or STS may be starting anew. */
const PROVIDER_WAIT_MS = 1000;
/** A provider that hangs must not hold the request for ever: the Pod Identity agent and STS answer within a second. */
const RENEWAL_TIMEOUT_MS = 30_000;

/** What S3 says of session credentials that are over. */
const EXPIRED = ['ExpiredToken', 'ExpiredTokenException', 'TokenRefreshRequired'];
/** What the SDK says when its provider has none, or none that are still good. */
const PROVIDER = ['CredentialsProviderError', 'TokenProviderError'];

/** Resolves with credentials, asking the source anew and not a memory when told to. */
export type Provider = (options?: { forceRefresh?: boolean }) => Promise<unknown>;

/**
 * Sends again what was refused because the credentials had expired, with new ones. S3's clock decides when a token is over, and
 * a provider that remembers tokens by the node's clock does not know. Requests that fail together share one renewal.
 */
export class Renewal {
  readonly #provider: Provider;
  /** Counts renewals, so that a request that was refused with older credentials is simply sent again. */
  #generation = 0;
  #renewing: Promise<void> | undefined;
  /** Without any success there may be nothing to renew, and waiting for it would only hide that. */
  #worked = false;

  constructor(provider: Provider) {
    this.#provider = provider;
  }

  async around<T>(send: () => Promise<T>): Promise<T> {
    for (let renewals = 0; ; renewals += 1) {
      const generation = this.#generation;
      try {
        const answer = await send();
        this.#worked = true;
        return answer;
      } catch (error) {
        const names = errorNames(error);
        const expired = names.some((name) => EXPIRED.includes(name));
        const lost = this.#worked && names.some((name) => PROVIDER.includes(name));
        if (renewals === MAX_RENEWALS || !(expired || lost)) throw error;
        if (lost) await sleep(PROVIDER_WAIT_MS * (0.5 + Math.random()));
        // Its failure is the request's next one, with the provider's own words.
        if (generation === this.#generation) await this.#renew().catch(() => {});
      }
    }
  }

  async #renew(): Promise<void> {
    this.#renewing ??= this.#provider({ forceRefresh: true })
      .then(() => {
        this.#generation += 1;
      })
      .finally(() => {
        this.#renewing = undefined;
      });
    await Promise.race([this.#renewing, sleep(RENEWAL_TIMEOUT_MS, undefined, { ref: false })]);
  }
}
