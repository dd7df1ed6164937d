import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import { MANIFESTS } from '../../lab/manifests.ts';

/**
 * IAM's grammar of policies (IAM User Guide, "Grammar of the IAM JSON policy language"), of which more is demanded here: each statement has
 * a Sid, and actions are lists.
 */

const FOLDER = path.join(MANIFESTS, 'iam');

export const POLICIES: readonly string[] = readdirSync(FOLDER);

/** The values that `templatefile` and envsubst put in; here AWS's own examples. */
export const VALUES: Readonly<Record<string, string>> = {
  partition: 'aws',
  dns_suffix: 'amazonaws.com',
  account: '111122223333',
  region: 'eu-central-1',
  bucket: 'amzn-s3-demo-bucket',
  prefix: 'exhibit',
  longest_retention_days: '3650',
  evidence_key_arn: 'arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab',
  seal_key_arn: 'arn:aws:kms:eu-central-1:111122223333:key/0987dcba-09fe-87dc-65ba-ab0987654321',
  agent_role_arn: 'arn:aws:iam::111122223333:role/exhibit-agent',
  reader_role_arn: 'arn:aws:iam::111122223333:role/exhibit-reader',
  custodian_role_arn: 'arn:aws:iam::111122223333:role/custodian',
  cluster_arn: 'arn:aws:eks:eu-central-1:111122223333:cluster/prod',
  oidc_provider: 'oidc.eks.eu-central-1.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE',
};

/** Names of the placeholders in a template. */
export const placeholdersOf = (text: string): string[] => [
  ...new Set([...text.matchAll(/\$\{([^}]*)\}/g)].map(([, name = '']) => name)),
];

const action = z.string().regex(/^([a-z0-9-]+:[A-Za-z]+|s3:\*)$/, { error: 'service:Action' });
/** What a refusal leaves out may be a group, which a grant may not. */
const spared = z.string().regex(/^[a-z0-9-]+:[A-Za-z]+\*?$/, { error: 'service:Action' });
const arn = z.string().regex(/^(\*|arn:aws:(s3:::|kms:|iam::|eks:)[^\s]*)$/, { error: 'an ARN, or *' });
const oneOrMore = <T extends z.ZodType>(item: T) => z.union([item, z.array(item).min(1)]);

const OPERATORS = [
  'ArnLike',
  'ArnNotLike',
  'Bool',
  'Null',
  'NumericGreaterThan',
  'StringEquals',
  'StringEqualsIfExists',
  'StringLike',
  'StringNotEquals',
] as const;
const conditions = z.partialRecord(
  z.enum(OPERATORS),
  z.record(
    z.string().regex(/^(aws|s3|kms|oidc\.[\w.-]+\/id\/\w+):[\w:/-]+$/, { error: 'a condition key' }),
    oneOrMore(z.string()),
  ),
);

const statement = z
  .strictObject({
    Sid: z.string().regex(/^[A-Za-z0-9]+$/),
    Effect: z.enum(['Allow', 'Deny']),
    Principal: z
      .union([
        z.literal('*'),
        z
          .record(z.enum(['AWS', 'Service', 'Federated']), oneOrMore(z.string()))
          .or(z.partialRecord(z.enum(['AWS', 'Service', 'Federated']), oneOrMore(z.string()))),
      ])
      .optional(),
    Action: oneOrMore(action).optional(),
    NotAction: oneOrMore(spared).optional(),
    Resource: oneOrMore(arn).optional(),
    Condition: conditions.optional(),
  })
  .refine(({ Action, NotAction }) => (Action === undefined) !== (NotAction === undefined), {
    error: 'Action or NotAction',
  });

export const policySchema = z.strictObject({ Version: z.literal('2012-10-17'), Statement: z.array(statement).min(1) });
export type Policy = z.output<typeof policySchema>;
export type Statement = z.output<typeof statement>;

export const templateOf = (name: string): string => readFileSync(path.join(FOLDER, name), 'utf8');

export const filled = (text: string): string =>
  text.replaceAll(/\$\{([^}]*)\}/g, (whole, name: string) => VALUES[name] ?? whole);

export const policyOf = (name: string): Policy => policySchema.parse(JSON.parse(filled(templateOf(name))));

export const listOf = (given: string | readonly string[] | undefined): readonly string[] =>
  given === undefined ? [] : typeof given === 'string' ? [given] : given;

/** Actions that a policy allows, sorted. */
export const allowedBy = ({ Statement }: Policy): string[] =>
  Statement.filter(({ Effect }) => Effect === 'Allow')
    .flatMap(({ Action }) => listOf(Action))
    .sort();
