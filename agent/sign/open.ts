import type { Logger } from 'pino';
import { z } from 'zod';
import { ExhibitError } from '../../evidence/error.ts';
import { generateSigner, loadSigner, MAX_KEY_NAME_CHARS, type Sealer, type Signer } from '../../evidence/seal.ts';
import { createSealer } from '../../evidence/sealer.ts';
import { openAuthorities } from './authorities.ts';
import { openKms, openKmsSigner } from './kms.ts';
import { openLateSigner } from './late-signer.ts';

const absolutePath = z.string().regex(/^\//, { error: 'an absolute path' });

/** Fetch takes none, and a bundle would show them. */
const authorityUrl = z
  .url({ protocol: /^https?$/, error: 'a URL such as https://tsa.example.com/' })
  .refine((url) => !/^https?:\/\/[^/]*@/.test(url), { error: 'a URL without a name and a password in it' });

/** Each key costs every seal a signature, and a KMS a request. */
const MAX_KEYS = 8;
/** The sealer gives all of them together 10 s. */
const MAX_URLS = 4;
const MAX_TIMEOUT_MS = 10_000;

/** The `signing` section of the agent's configuration; docs/trust.md. */
export const signingSchema = z
  .strictObject({
    keyFile: absolutePath.optional(),
    keys: z
      .array(
        z.union(
          [
            z.strictObject({ file: absolutePath }),
            z.strictObject({
              kms: z.string().min(1).max(MAX_KEY_NAME_CHARS),
              region: z.string().min(1).optional(),
              endpoint: z.url({ protocol: /^https?$/ }).optional(),
              publicKeyFile: absolutePath.optional(),
            }),
          ],
          { error: '{ file: /path } or { kms: ARN or alias, region?, endpoint?, publicKeyFile? }' },
        ),
      )
      .min(1)
      .max(MAX_KEYS)
      .optional(),
    timestamp: z
      .strictObject({
        url: z.union([authorityUrl.transform((url) => [url]), z.array(authorityUrl).min(1).max(MAX_URLS)], {
          error: 'an http or https URL without a password, or a list of such URLs',
        }),
        timeoutMs: z.number().int().min(100).max(MAX_TIMEOUT_MS).default(3000),
      })
      .optional(),
  })
  .refine(({ keyFile, keys }) => keyFile === undefined || keys === undefined, {
    path: ['keys'],
    error: 'nothing beside signing.keyFile: put that file into the list',
  });
export type SigningConfig = z.output<typeof signingSchema>;
export type ConfiguredKey =
  | { readonly file: string }
  | Exclude<NonNullable<SigningConfig['keys']>[number], { file: string }>;

export function configuredKeys({ keyFile, keys }: SigningConfig): readonly ConfiguredKey[] {
  return keyFile === undefined ? (keys ?? []) : [{ file: keyFile }];
}

/** Throws ExhibitError `config`. A key of a KMS is to be disposed. */
export async function openSigner(key: ConfiguredKey, signal?: AbortSignal): Promise<Signer & Partial<Disposable>> {
  return 'file' in key ? await loadSigner(key.file) : await openKmsSigner(key, signal);
}

/**
 * Everything that vouches for this agent's bundles. Files are read, and a KMS is asked for public keys that are not in a file; one
 * that is away is asked again for each seal. Throws ExhibitError `config`: a key that is not there at the start is a fault of the
 * configuration.
 */
export async function openSealer(config: SigningConfig, log?: Logger): Promise<Sealer & Disposable> {
  using stack = new DisposableStack();
  const keys = configuredKeys(config).map(async (key) => {
    if ('file' in key) return await loadSigner(key.file);
    return await openLateSigner(stack.use(await openKms(key)), key.kms, log);
  });
  const signers = settledAll(await Promise.allSettled(keys));
  const known = new Set<string>();
  for (const one of signers) {
    const keyId = 'sign' in one ? one.keyId : one.known?.keyId;
    if (keyId === undefined) continue;
    if (known.has(keyId)) throw new ExhibitError('config', `signing.keys names key ${keyId} twice`);
    known.add(keyId);
  }
  const { timestamp } = config;
  const authorities =
    timestamp === undefined
      ? {}
      : { timestamp: openAuthorities({ urls: timestamp.url, timeoutMs: timestamp.timeoutMs }) };
  const sealer = createSealer({ signers, fallback: generateSigner(), ...authorities });
  const opened = stack.move();
  return Object.assign(sealer, { [Symbol.dispose]: () => opened.dispose() });
}

/** All have ended when the first failure is told: what they opened can be closed. */
function settledAll<T>(results: readonly PromiseSettledResult<T>[]): T[] {
  return results.map((result) => {
    if (result.status === 'fulfilled') return result.value;
    throw result.reason;
  });
}
