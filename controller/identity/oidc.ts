import {
  createRemoteJWKSet,
  customFetch,
  decodeJwt,
  type JWTPayload,
  type JWTVerifyGetKey,
  errors as joseErrors,
  jwtVerify,
} from 'jose';
import { z } from 'zod';
import { ExhibitError, explain, isExhibitError } from '../../evidence/error.ts';
import { boundedFetch, type Fetch } from './bounded-fetch.ts';
import { type IssuerConfig, isSafeUrl } from './oidc-config.ts';
import type { Claims } from './operators.ts';

/** Tokens by OpenID Connect Core 1.0 and Discovery 1.0, checked through jose. */
export interface TokenCheck {
  /** @throws ExhibitError `unauthenticated` that says why; for the log alone */
  claims(token: string): Promise<Claims>;
}

/** Tokens with hundreds of groups are a few KiB; node's own bound for all headers is 16 KiB. */
const MAX_TOKEN_LENGTH = 16 * 1024;
/** In one token; issuers leave the claim out long before. */
const MAX_GROUPS = 1_000;
/** OpenID Connect Core, 2: at most 255 ASCII characters. */
const SUBJECT = /^[\x21-\x7e]{1,255}$/;
/** Keys are asked for anew this often, while the old ones stay in use. */
const REFRESH_MS = 10 * 60_000;
/** An issuer that is away for longer has its keys forgotten: it may have withdrawn them. */
const KEEP_MS = 24 * 3_600_000;
/** Between two questions for a key that is not known, and after one that failed: strangers decide how often that is. */
const COOLDOWN_MS = 30_000;
const FETCH_TIMEOUT_MS = 5_000;

export interface TokenCheckOptions {
  readonly fetch?: Fetch;
  readonly now?: () => number;
}

export function createTokenCheck(issuers: readonly IssuerConfig[], options: TokenCheckOptions = {}): TokenCheck {
  const known = new Map(issuers.map((config) => [config.issuer, { config, keys: createKeys(config, options) }]));
  return {
    async claims(token) {
      if (token.length > MAX_TOKEN_LENGTH) throw refused(`the token is longer than ${MAX_TOKEN_LENGTH} characters`);
      const found = known.get(issuerIn(token));
      if (found === undefined) throw refused('the token is of an issuer that is not configured');
      const { config, keys } = found;
      const getKey: JWTVerifyGetKey = async (header, input) => await (await keys())(header, input);
      try {
        const { payload } = await jwtVerify(token, getKey, {
          issuer: config.issuer,
          audience: config.audience,
          algorithms: config.algorithms,
          clockTolerance: config.clockToleranceS,
          requiredClaims: ['exp', 'sub'],
          ...(options.now === undefined ? {} : { currentDate: new Date(options.now()) }),
        });
        return claimsOf(payload, config);
      } catch (cause) {
        if (isExhibitError(cause)) throw cause;
        // jose's words name claims and codes, never what is in the token.
        const words = cause instanceof joseErrors.JOSEError ? `${cause.message} (${cause.code})` : explain(cause);
        throw refused(`the token of ${config.issuer} is no good: ${words}`, cause);
      }
    },
  };
}

/** Only to know which keys to try: nothing of it is believed. */
function issuerIn(token: string): string {
  try {
    return decodeJwt(token).iss ?? '';
  } catch (cause) {
    throw refused('the token is no JWT', cause);
  }
}

function claimsOf(payload: JWTPayload, config: IssuerConfig): Claims {
  const { sub, email, email_verified: isVerified } = payload;
  if (sub === undefined || !SUBJECT.test(sub)) throw refused('the token has no sub that OpenID Connect allows');
  const groups = payload[config.groupsClaim];
  const list: readonly unknown[] = Array.isArray(groups) ? groups : [groups];
  if (list.length > MAX_GROUPS) throw refused(`the token has more than ${MAX_GROUPS} groups`);
  return {
    issuer: config.issuer,
    subject: sub,
    groups: list.filter((one): one is string => typeof one === 'string'),
    ...(typeof email === 'string' && isVerified === true ? { email } : {}),
  };
}

type Keys = ReturnType<typeof createRemoteJWKSet>;

/** The issuer's keys: found by its discovery document when somebody first comes with a token of it. */
function createKeys(config: IssuerConfig, options: TokenCheckOptions): () => Promise<Keys> {
  const now = options.now ?? Date.now;
  const fetch = withCooldown(options.fetch ?? boundedFetch, now);
  let keys: Promise<Keys> | undefined;
  let refreshedMs = 0;
  return async () => {
    if (keys === undefined) {
      refreshedMs = now();
      const finding = discover(config.issuer, fetch);
      keys = finding;
      finding.catch(() => {
        keys = undefined;
      });
      return await finding;
    }
    const found = await keys;
    if (now() - refreshedMs >= REFRESH_MS) {
      refreshedMs = now();
      // Those that are known stay in use when this fails, for KEEP_MS.
      void found.reload().catch(() => undefined);
    }
    return found;
  };
}

const discoverySchema = z.object({ issuer: z.string(), jwks_uri: z.string().max(2_000).refine(isSafeUrl) });

async function discover(issuer: string, fetch: Fetch): Promise<Keys> {
  const url = `${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`;
  const response = await fetch(url, { signal: AbortSignal.timeout(FETCH_TIMEOUT_MS) });
  const document = discoverySchema.safeParse(await response.json().catch(() => undefined));
  if (!document.success) throw refused(`${url} is no discovery document with an issuer and a jwks_uri over https`);
  if (document.data.issuer !== issuer) throw refused(`${url} is of another issuer`);
  if (issuer.startsWith('https:') && !document.data.jwks_uri.startsWith('https:'))
    throw refused(`${url} names keys that are not over https`);
  return createRemoteJWKSet(new URL(document.data.jwks_uri), {
    timeoutDuration: FETCH_TIMEOUT_MS,
    cooldownDuration: COOLDOWN_MS,
    cacheMaxAge: KEEP_MS,
    [customFetch]: fetch,
  });
}

/** After a failure nothing is asked for a while: each token of a stranger would be a question to an issuer that is down. */
function withCooldown(fetch: Fetch, now: () => number): Fetch {
  let failedMs = Number.NEGATIVE_INFINITY;
  return async (url, init) => {
    if (now() - failedMs < COOLDOWN_MS)
      throw refused(`its issuer did not answer, and is asked again after ${COOLDOWN_MS / 1000} s`);
    try {
      return await fetch(url, init);
    } catch (cause) {
      failedMs = now();
      throw refused('its issuer cannot be asked for its keys', cause);
    }
  };
}

function refused(why: string, cause?: unknown): ExhibitError {
  return new ExhibitError('unauthenticated', why, { cause });
}
