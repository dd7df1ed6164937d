import { globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { parseConfig } from '../../../agent/config.ts';
import { MANIFESTS } from '../../lab/manifests.ts';
import {
  allowedBy,
  listOf,
  POLICIES,
  placeholdersOf,
  policyOf,
  type Statement,
  templateOf,
  VALUES,
} from './policies.ts';

/** The IAM policies against IAM's grammar, the code that uses them and the configuration that goes with them. */

const AGENT = path.resolve(MANIFESTS, '../agent');

/** Names of the commands of AWS' SDK that the agent makes, and the files they are in. */
function commandsOfAgent(): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const file of globSync('**/*.ts', { cwd: AGENT })) {
    for (const [, name = ''] of readFileSync(path.join(AGENT, file), 'utf8').matchAll(/\bnew (\w+)Command\(/g))
      found.set(name, [...(found.get(name) ?? []), file]);
  }
  return found;
}

/** What each request needs (Service Authorization Reference of S3 and KMS). */
const NEEDS: Readonly<Record<string, readonly string[]>> = {
  PutObject: ['s3:PutObject'],
  CreateMultipartUpload: ['s3:PutObject'],
  UploadPart: ['s3:PutObject'],
  CompleteMultipartUpload: ['s3:PutObject'],
  AbortMultipartUpload: ['s3:AbortMultipartUpload'],
  Sign: ['kms:Sign'],
  GetPublicKey: ['kms:GetPublicKey'],
};

/** What the doctor asks to see that it is refused. */
const TO_BE_REFUSED: Readonly<Record<string, string>> = {
  ListObjectsV2: 's3:ListBucket',
  HeadObject: 's3:GetObject',
  GetObjectLockConfiguration: 's3:GetBucketObjectLockConfiguration',
  GetBucketVersioning: 's3:GetBucketVersioning',
};

describe.each(POLICIES)('%s', (name) => {
  test('is a policy by the grammar of IAM', () => {
    expect(placeholdersOf(templateOf(name)).filter((one) => VALUES[one] === undefined)).toEqual([]);
    expect(policyOf(name).Statement.length).toBeGreaterThan(0);
  });

  test('allows no action by a wildcard, and everybody nothing', () => {
    const allowing = policyOf(name).Statement.filter(({ Effect }) => Effect === 'Allow');
    for (const { Action, NotAction, Principal } of allowing) {
      expect(listOf(Action).filter((action) => action.includes('*'))).toEqual([]);
      expect(NotAction).toBeUndefined();
      expect(Principal).not.toBe('*');
      expect(JSON.stringify(Principal ?? {})).not.toContain('"*"');
    }
  });
});

describe('the policy of the agents', () => {
  const allowed = () => allowedBy(policyOf('agent.json'));

  test('has what the requests that the code sends need, and what its configuration adds', () => {
    const commands = [...commandsOfAgent().keys()].filter((name) => TO_BE_REFUSED[name] === undefined);
    expect(commands.filter((name) => NEEDS[name] === undefined)).toEqual([]);
    const needed = commands.flatMap((name) => NEEDS[name] ?? []);
    // Of components/eks: Object Lock with a mode, tags, SSE-KMS (docs/sinks.md).
    const [{ sink } = { sink: undefined }] = parseConfig(
      readFileSync(path.join(MANIFESTS, 'components/eks/agent.yaml'), 'utf8'),
      'agent.yaml',
      {},
    ).sinks;
    if (sink?.objectLock?.mode !== undefined) needed.push('s3:PutObjectRetention');
    if (sink?.objectLock?.legalHold === true) needed.push('s3:PutObjectLegalHold');
    if (sink?.tags === true) needed.push('s3:PutObjectTagging');
    if (sink?.serverSideEncryption?.kind === 'aws:kms') needed.push('kms:GenerateDataKey', 'kms:Decrypt');
    expect(allowed()).toEqual([...new Set(needed)].sort());
  });

  test('has nothing that the doctor asks in order to be refused', () => {
    const asked = [...commandsOfAgent().keys()].filter((name) => TO_BE_REFUSED[name] !== undefined);
    expect(asked.length).toBeGreaterThan(0);
    for (const name of asked) expect(allowed()).not.toContain(TO_BE_REFUSED[name]);
  });

  test('cannot read, list or delete, nor shorten a retention or use its key past S3', () => {
    expect(allowed().filter((one) => /^s3:(Get|List|Delete|Bypass|.*Bucket)/.test(one))).toEqual([]);
    const keys = policyOf('agent.json').Statement.filter(({ Action }) => listOf(Action).includes('kms:Decrypt'));
    expect(keys.map(({ Condition }) => Condition?.StringEquals)).toEqual([
      { 'kms:ViaService': 's3.eu-central-1.amazonaws.com' },
    ]);
  });

  test('is for the place that the sink writes to', () => {
    const [write] = policyOf('agent.json').Statement;
    expect(write?.Resource).toBe('arn:aws:s3:::amzn-s3-demo-bucket/exhibit/*');
  });
});

describe('the policy of the bucket', () => {
  const statementOf = (sid: string): Statement => {
    const found = policyOf('bucket.json').Statement.find(({ Sid }) => Sid === sid);
    if (found === undefined) throw new Error(`no ${sid}`);
    return found;
  };

  test('allows the agents what their own policy allows, since their account may be another one, and nobody else anything', () => {
    const own = policyOf('agent.json').Statement[0];
    const allowing = policyOf('bucket.json').Statement.filter(({ Effect }) => Effect === 'Allow');
    expect(allowing).toEqual([
      {
        Sid: 'AgentsWrite',
        Effect: 'Allow',
        Principal: { AWS: VALUES.agent_role_arn },
        Action: own?.Action,
        Resource: own?.Resource,
      },
    ]);
  });

  test('refuses the agents everything but what their own policy allows', () => {
    const own = allowedBy(policyOf('agent.json')).filter((one) => one.startsWith('s3:'));
    expect([...listOf(statementOf('AgentsOnlyWrite').NotAction)].sort()).toEqual(own);
  });

  test('refuses a write without If-None-Match, which parts of an upload cannot have', () => {
    expect(statementOf('NothingIsOverwritten').Condition).toEqual({
      Null: { 's3:if-none-match': 'true' },
      Bool: { 's3:ObjectCreationOperation': 'true' },
    });
  });
});

describe('who may take the role', () => {
  test.each(['trust-pod-identity.json', 'trust-irsa.json'])(
    '%s names the service account of the agents alone',
    (name) => {
      const [statement, ...others] = policyOf(name).Statement;
      expect(others).toEqual([]);
      expect(JSON.stringify(statement?.Condition)).toMatch(/exhibit-agent/);
    },
  );
});

test('readers read, and cannot write or delete', () => {
  expect(allowedBy(policyOf('reader.json')).filter((one) => !/^(s3:(Get|List)|kms:Decrypt)/.test(one))).toEqual([]);
});
