import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { MANIFESTS } from '../../lab/manifests.ts';
import { POLICIES, placeholdersOf, templateOf } from './policies.ts';

/** The Terraform example before a parser of HCL (HashiCorp's own, as WebAssembly). Terraform itself is not run. */

const FOLDER = path.join(MANIFESTS, 'terraform');
const FILES = readdirSync(FOLDER).filter((name) => name.endsWith('.tf'));

const block = z.record(z.string(), z.unknown());
const blocks = z.looseObject({
  variable: z.record(z.string(), z.array(block)).default({}),
  locals: z.array(block).default([]),
  resource: z.record(z.string(), z.record(z.string(), z.array(block))).default({}),
});

const texts = FILES.map((name) => readFileSync(path.join(FOLDER, name), 'utf8'));
const whole = texts.join('\n');

/** By no name that the compiler follows: the package's types bring the browser's globals into the whole project. */
const PARSER: string = '@cdktn/hcl2json';
type Parse = (name: string, text: string) => Promise<unknown>;
const parserSchema = z.looseObject({ parse: z.custom<Parse>((given) => typeof given === 'function') });

let parsed: z.output<typeof blocks>[];
beforeAll(async () => {
  const { parse } = parserSchema.parse(await import(PARSER));
  parsed = await Promise.all(FILES.map(async (name, index) => blocks.parse(await parse(name, texts[index] ?? ''))));
});

const resources = (): Map<string, Readonly<Record<string, unknown>>> =>
  new Map(
    parsed.flatMap(({ resource }) =>
      Object.entries(resource).flatMap(([type, named]) =>
        Object.entries(named).map(([name, [body = {}]]): [string, Readonly<Record<string, unknown>>] => [
          `${type}.${name}`,
          body,
        ]),
      ),
    ),
  );

/** local.names, as expressions. */
function commonNames(): Readonly<Record<string, unknown>> {
  const [{ names } = { names: undefined }] = parsed.flatMap(({ locals }) => locals);
  return block.parse(names);
}

/** How Terraform names the template of a policy: one resource takes either of the two for trust. */
const fileOf = (policy: string): string => policy.replace(/^trust-.*\.json$/, `trust-$${'{var.identity}'}.json`);

/** Names that a policy's template is given beside local.names. */
function given(policy: string): string[] {
  const [, call] = whole.split(`/iam/${fileOf(policy)}", `);
  if (call === undefined) throw new Error(`${policy} is used by no resource`);
  if (call.startsWith('local.names)')) return [];
  const own = /^merge\(local\.names, \{([^}]*)\}\)\)/.exec(call)?.[1];
  if (own === undefined) throw new Error(`what ${policy} is given cannot be read`);
  return assigned(own);
}

const assigned = (text: string): string[] => [...text.matchAll(/^\s*(\w+)\s*=/gm)].map(([, name = '']) => name);

describe('the Terraform example', () => {
  test('has resources for bucket, keys and roles', () => {
    expect([...resources().keys()].sort()).toEqual([
      'aws_eks_pod_identity_association.agent',
      'aws_iam_role.agent',
      'aws_iam_role.reader',
      'aws_iam_role_policy.agent',
      'aws_iam_role_policy.reader',
      'aws_kms_alias.evidence',
      'aws_kms_alias.seal',
      'aws_kms_key.evidence',
      'aws_kms_key.seal',
      'aws_s3_bucket.evidence',
      'aws_s3_bucket_lifecycle_configuration.evidence',
      'aws_s3_bucket_object_lock_configuration.evidence',
      'aws_s3_bucket_ownership_controls.evidence',
      'aws_s3_bucket_policy.evidence',
      'aws_s3_bucket_public_access_block.evidence',
      'aws_s3_bucket_server_side_encryption_configuration.evidence',
      'aws_s3_bucket_versioning.evidence',
    ]);
    expect(resources().get('aws_s3_bucket.evidence')).toMatchObject({ object_lock_enabled: true });
    expect(resources().get('aws_kms_key.seal')).toMatchObject({ customer_master_key_spec: 'ECC_NIST_P256' });
  });

  test('refers to nothing that is not there', () => {
    const declared = new Set([
      ...resources().keys(),
      ...parsed.flatMap(({ variable }) => Object.keys(variable).map((name) => `var.${name}`)),
    ]);
    const used = [...whole.matchAll(/(?<![\w."])(var\.\w+|aws_\w+\.\w+)/g)].map(([, name = '']) => name);
    expect(used.length).toBeGreaterThan(20);
    expect(used.filter((name) => !declared.has(name))).toEqual([]);
    const variables = parsed.flatMap(({ variable }) => Object.keys(variable));
    expect(variables.filter((name) => !used.includes(`var.${name}`))).toEqual([]);
  });

  test.each(POLICIES)('gives %s each name that its template has', (policy) => {
    const names = [...Object.keys(commonNames()), ...given(policy)];
    expect(placeholdersOf(templateOf(policy)).filter((name) => !names.includes(name))).toEqual([]);
  });

  test('has no policy of its own: each is a template of manifests/iam, but who may read, which is for the site to say', () => {
    const policies = [...resources()].flatMap(([name, body]) =>
      Object.entries(body)
        .filter(([key]) => /^(?:assume_role_)?policy$/.test(key))
        .map(([key, value]) => [`${name}.${key}`, String(value)] as const),
    );
    expect(policies.length).toBe(7);
    const own = policies.filter(([, value]) => !/^\$\{templatefile\("\$\{path\.module\}\/\.\.\/iam\//.test(value));
    expect(own).toEqual([['aws_iam_role.reader.assume_role_policy', `$${'{var.reader_trust_policy}'}`]]);
  });
});
