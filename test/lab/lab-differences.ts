/**
 * Everything in which a pod of the lab is not what its overlay renders, each with its reason. What kubelet does and the lab does not is
 * said at `asKubelet` (kubelet.ts).
 */
import { parse, stringify } from 'yaml';
import { z } from 'zod';

/** Sections of the configuration that a test may set in place of the rendered ones. */
export const DIFFERENT_SECTIONS = {
  sink: 'the shipped bucket is one that AWS lets nobody make, and radosgw has neither KMS nor Object Lock',
  signing: 'where no KMS is at hand, the key of an installation is not either',
  memory: 'a test that needs a long freeze makes the buffer small',
  identity: 'the shipped controller lets nobody in',
} as const;

/** Variables that a test may add to the rendered ones; none of them is in a manifest. */
export const ADDED_ENVIRONMENT = {
  AWS_ACCESS_KEY_ID: 'credentials of radosgw, which knows no roles',
  AWS_SECRET_ACCESS_KEY: 'the same',
  AWS_REGION: 'injected by the webhooks of IRSA and Pod Identity',
  AWS_DEFAULT_REGION: 'the same',
  AWS_ROLE_ARN: 'injected by the webhook of IRSA',
  AWS_WEB_IDENTITY_TOKEN_FILE: 'the same',
  AWS_STS_REGIONAL_ENDPOINTS: 'the same',
  AWS_CONTAINER_CREDENTIALS_FULL_URI: 'injected by the webhook of Pod Identity; the port is one of the lab',
  AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: 'the same',
  AWS_ENDPOINT_URL: 'the way to a stand-in for S3, STS and KMS',
} as const;

/** A section in place of the rendered one; undefined leaves it out. */
export type OtherSections = Partial<Record<keyof typeof DIFFERENT_SECTIONS, unknown>>;
export type AddedEnvironment = Partial<Record<keyof typeof ADDED_ENVIRONMENT, string>>;

/** The rendered text itself where nothing is to differ. */
export function configText(rendered: string, other: OtherSections): string {
  if (Object.keys(other).length === 0) return rendered;
  const config = z.record(z.string(), z.unknown()).parse(parse(rendered));
  for (const [name, section] of Object.entries(other)) {
    if (section === undefined) delete config[name];
    else config[name] = section;
  }
  return stringify(config);
}
