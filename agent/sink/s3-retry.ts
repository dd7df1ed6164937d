import { StandardRetryStrategy } from '@smithy/core/retry';
import { z } from 'zod';

/**
 * How often and how long one request is tried. The SDK's standard mode decides what is worth it: throttling, 500, 502, 503, 504,
 * resets, refusals, timeouts, DNS, a clock that it set right; never AccessDenied and the like. All requests of a sink share its bucket of
 * 500 tokens, from which each retry takes 14, or 5 after throttling, and success puts them back: a server that is gone
 * costs 35 retries in all and not 35 a part.
 */
const DEFAULTS = {
  attempts: 8,
  /** Before the second attempt at most; doubled with each one after. Throttling begins with a second. */
  firstWaitMs: 100,
  longestWaitMs: 20_000,
} as const;

/** A capture waits while a request is tried; the spool takes over earlier than this. */
const MAX_ATTEMPTS = 20;
const MAX_WAIT_MS = 60_000;

/** The `retry` section of a sink. */
export const retrySchema = z
  .strictObject({
    attempts: z.number().int().min(1).max(MAX_ATTEMPTS).optional(),
    firstWaitMs: z.number().int().min(10).max(MAX_WAIT_MS).optional(),
    longestWaitMs: z.number().int().min(10).max(MAX_WAIT_MS).optional(),
  })
  .refine(({ firstWaitMs, longestWaitMs }) => (firstWaitMs ?? 0) <= (longestWaitMs ?? DEFAULTS.longestWaitMs), {
    path: ['firstWaitMs'],
    error: 'at most longestWaitMs',
  });
export type RetryConfig = z.output<typeof retrySchema>;

export function retryStrategy(config: RetryConfig, random: () => number = Math.random): StandardRetryStrategy {
  return new StandardRetryStrategy({
    maxAttempts: config.attempts ?? DEFAULTS.attempts,
    baseDelay: config.firstWaitMs ?? DEFAULTS.firstWaitMs,
    backoff: new Backoff(config.longestWaitMs ?? DEFAULTS.longestWaitMs, random),
  });
}

/** A random part of a wait that doubles, so that the parts which failed together do not come back together. */
export class Backoff {
  readonly #longestMs: number;
  readonly #random: () => number;
  #baseMs: number = DEFAULTS.firstWaitMs;

  constructor(longestMs: number, random: () => number) {
    this.#longestMs = longestMs;
    this.#random = random;
  }

  /** The SDK tells it before each wait: ours, or a second after throttling. */
  setDelayBase(baseMs: number): void {
    this.#baseMs = baseMs;
  }

  /** `retries`: how many were made before. */
  computeNextBackoffDelay(retries: number): number {
    return Math.floor(this.#random() * Math.min(this.#baseMs * 2 ** retries, this.#longestMs));
  }
}
