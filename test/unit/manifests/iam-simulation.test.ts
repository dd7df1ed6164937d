import { describe, expect, test } from 'vitest';
import {
  ADMINISTRATOR,
  AGENT,
  AGENT_ELSEWHERE,
  BUCKET,
  type Caller,
  CUSTODIAN,
  changingActions,
  EVERYTHING,
  EVIDENCE,
  EVIDENCE_KEY,
  judge,
  judgeTrust,
  READER,
  type Request,
  SEAL_KEY,
} from './iam-simulation.ts';
import { VALUES } from './policies.ts';

/** What the policies allow and refuse together, by a judge that is not ours (iam-simulation.ts). */

const ALLOWED = 'Allowed';
/** A request that makes an object, as agent/sink/s3-upload.ts sends it. */
const CREATES = { 's3:ObjectCreationOperation': 'true' };
const CONDITIONAL = { ...CREATES, 's3:if-none-match': '*' };
const SEALED_WITH = {
  's3:x-amz-server-side-encryption': 'aws:kms',
  's3:x-amz-server-side-encryption-aws-kms-key-id': EVIDENCE_KEY,
};
const THROUGH_S3 = { 'kms:ViaService': 's3.eu-central-1.amazonaws.com', 'kms:EncryptionContext:aws:s3:arn': BUCKET };
const OF_THE_SEAL = { 'kms:SigningAlgorithm': 'ECDSA_SHA_256', 'kms:MessageType': 'DIGEST' };

const onEvidence = (action: string, context: Readonly<Record<string, string>> = {}): Request => ({
  action,
  resource: EVIDENCE,
  context,
});

/** All that a capture, its spool and its seal send. */
const OF_A_CAPTURE: readonly (readonly [string, Request])[] = [
  ['put a small object', onEvidence('s3:PutObject', { ...CONDITIONAL, ...SEALED_WITH })],
  ['begin an upload and send its parts', onEvidence('s3:PutObject', { 's3:ObjectCreationOperation': 'false' })],
  ['complete an upload', onEvidence('s3:PutObject', CONDITIONAL)],
  ['give an upload up', onEvidence('s3:AbortMultipartUpload')],
  ['ask for the retention of an incident', onEvidence('s3:PutObjectRetention', retention('3650'))],
  ['tag what it makes', onEvidence('s3:PutObjectTagging', { 's3:RequestObjectTag/exhibit-capture': 'id' })],
  ['have S3 make a data key', { action: 'kms:GenerateDataKey', resource: EVIDENCE_KEY, context: THROUGH_S3 }],
  ['have S3 put parts together', { action: 'kms:Decrypt', resource: EVIDENCE_KEY, context: THROUGH_S3 }],
  ['sign a manifest', { action: 'kms:Sign', resource: SEAL_KEY, context: OF_THE_SEAL }],
  ['learn its public key', { action: 'kms:GetPublicKey', resource: SEAL_KEY }],
];

function retention(days: string): Readonly<Record<string, string>> {
  return { 's3:object-lock-mode': 'COMPLIANCE', 's3:object-lock-remaining-retention-days': days };
}

/** What whoever has the agents' credentials would like to do. */
const OF_A_THIEF: readonly (readonly [string, Request])[] = [
  ['overwrite evidence', onEvidence('s3:PutObject', CREATES)],
  ['write beside the prefix', { action: 's3:PutObject', resource: `${BUCKET}/other`, context: CONDITIONAL }],
  ['read evidence', onEvidence('s3:GetObject')],
  ['list evidence', { action: 's3:ListBucket', resource: BUCKET }],
  ['delete evidence', onEvidence('s3:DeleteObject')],
  ['delete a version', onEvidence('s3:DeleteObjectVersion')],
  ['lift a retention', onEvidence('s3:BypassGovernanceRetention')],
  ['lift a hold', onEvidence('s3:PutObjectLegalHold', { 's3:object-lock-legal-hold': 'OFF' })],
  ['lock for a century', onEvidence('s3:PutObjectRetention', retention('36500'))],
  [
    'tag what is there, so that a lifecycle rule takes it',
    onEvidence('s3:PutObjectTagging', { 's3:ExistingObjectTag/exhibit-capture': 'id' }),
  ],
  [
    'encrypt with a key of his own',
    onEvidence('s3:PutObject', {
      ...CONDITIONAL,
      's3:x-amz-server-side-encryption': 'aws:kms',
      's3:x-amz-server-side-encryption-aws-kms-key-id': 'arn:aws:kms:eu-central-1:999999999999:key/his',
    }),
  ],
  [
    'encrypt with a key that he brings along',
    onEvidence('s3:PutObject', { ...CONDITIONAL, 's3:x-amz-server-side-encryption-customer-algorithm': 'AES256' }),
  ],
  [
    'encrypt with no key of ours',
    onEvidence('s3:PutObject', { ...CONDITIONAL, 's3:x-amz-server-side-encryption': 'AES256' }),
  ],
  ['write without TLS', onEvidence('s3:PutObject', { ...CONDITIONAL, 'aws:SecureTransport': 'false' })],
  ['change the rules', { action: 's3:PutBucketPolicy', resource: BUCKET }],
  ['decrypt past S3', { action: 'kms:Decrypt', resource: EVIDENCE_KEY }],
  [
    'decrypt what lies in another bucket',
    {
      action: 'kms:Decrypt',
      resource: EVIDENCE_KEY,
      context: { ...THROUGH_S3, 'kms:EncryptionContext:aws:s3:arn': 'arn:aws:s3:::other' },
    },
  ],
  [
    'sign by another algorithm',
    { action: 'kms:Sign', resource: SEAL_KEY, context: { ...OF_THE_SEAL, 'kms:MessageType': 'RAW' } },
  ],
  ['delete the key of the seal', { action: 'kms:ScheduleKeyDeletion', resource: SEAL_KEY }],
  ['grant the key to a friend', { action: 'kms:CreateGrant', resource: EVIDENCE_KEY }],
];

describe.each([AGENT, AGENT_ELSEWHERE])('$name', (agent) => {
  test.each(OF_A_CAPTURE)('may %s', async (_, request) => {
    expect(await judge(agent, request)).toBe(ALLOWED);
  });

  test.each(OF_A_THIEF)('may not %s', async (_, request) => {
    expect(await judge(agent, request)).not.toBe(ALLOWED);
  });
});

/** The actions of those requests that are allowed, sorted. */
async function allowedOf(caller: Caller, requests: readonly Request[]): Promise<string[]> {
  const may: string[] = [];
  for (const request of requests) if ((await judge(caller, request)) === ALLOWED) may.push(request.action);
  return may.sort();
}

/** Past its own policy, as when somebody attaches one more to the role. */
const WIDENED: Caller = { ...AGENT, policy: EVERYTHING };

describe("an agents' role that was given everything", () => {
  test('still only writes: the bucket says so for every action that S3 knows', async () => {
    const asked: Request[] = [
      { action: 's3:ListBucket', resource: BUCKET },
      ...(await changingActions('s3', 'bucket')).map((action) => ({ action, resource: BUCKET })),
      ...['s3:GetObject', ...(await changingActions('s3', 'object'))].map((action) => onEvidence(action, CONDITIONAL)),
    ];
    expect(asked.length).toBeGreaterThan(40);
    expect(await allowedOf(WIDENED, asked)).toEqual([
      's3:AbortMultipartUpload',
      's3:PutObject',
      's3:PutObjectRetention',
      's3:PutObjectTagging',
    ]);
  });
});

describe('an administrator of the account that has the evidence', () => {
  test('changes nothing of the bucket, by any action that S3 knows', async () => {
    const actions = await changingActions('s3', 'bucket');
    expect(actions.length).toBeGreaterThan(20);
    expect(
      await allowedOf(
        ADMINISTRATOR,
        actions.map((action) => ({ action, resource: BUCKET })),
      ),
    ).toEqual([]);
  });

  test('adds to evidence and changes none of it, by any action that S3 knows', async () => {
    const actions = await changingActions('s3', 'object');
    expect(actions.length).toBeGreaterThan(15);
    const asked = actions.map((action) => onEvidence(action, CREATES));
    expect(await allowedOf(ADMINISTRATOR, asked)).toEqual([
      // Gives up an upload that is under way: no object is lost by it.
      's3:AbortMultipartUpload',
      // Longer alone, as far as the bucket lets.
      's3:PutObjectRetention',
      // Of what has no tag of exhibit's.
      's3:PutObjectTagging',
      // A copy out of an archive, beside the object.
      's3:RestoreObject',
    ]);
  });

  test.each([
    ['lift a hold', onEvidence('s3:PutObjectLegalHold', { 's3:object-lock-legal-hold': 'OFF' }), false],
    ['set a hold', onEvidence('s3:PutObjectLegalHold', { 's3:object-lock-legal-hold': 'ON' }), true],
    ['lock for a century', onEvidence('s3:PutObjectRetention', retention('36500')), false],
    ['overwrite evidence', onEvidence('s3:PutObject', CREATES), false],
    [
      'tag evidence so that a lifecycle rule takes it',
      onEvidence('s3:PutObjectTagging', { 's3:ExistingObjectTag/exhibit-capture': 'id' }),
      false,
    ],
  ] as const)('%s: %#', async (_, request, may) => {
    expect((await judge(ADMINISTRATOR, request)) === ALLOWED).toBe(may);
  });

  test.each([
    [
      'evidence-key',
      EVIDENCE_KEY,
      [
        'kms:CancelKeyDeletion',
        'kms:CreateAlias',
        'kms:DeleteAlias',
        'kms:EnableKey',
        'kms:EnableKeyRotation',
        'kms:RevokeGrant',
        'kms:TagResource',
        'kms:UntagResource',
        'kms:UpdateAlias',
        'kms:UpdateKeyDescription',
      ],
    ],
    [
      'seal-key',
      SEAL_KEY,
      [
        'kms:CancelKeyDeletion',
        'kms:CreateAlias',
        'kms:DeleteAlias',
        'kms:EnableKey',
        'kms:RevokeGrant',
        'kms:TagResource',
        'kms:UntagResource',
        'kms:UpdateAlias',
        'kms:UpdateKeyDescription',
      ],
    ],
  ] as const)('neither uses, disables nor deletes the key of %s, nor says who may', async (_, resource, allowed) => {
    const context = { ...THROUGH_S3, ...OF_THE_SEAL };
    const asked = (await changingActions('kms', 'key')).map((action) => ({ action, resource, context }));
    expect(await allowedOf(ADMINISTRATOR, asked)).toEqual(allowed);
  });
});

describe('a reader', () => {
  test.each([
    ['reads an object', onEvidence('s3:GetObject')],
    ['reads its retention', onEvidence('s3:GetObjectRetention')],
    ['lists captures', { action: 's3:ListBucket', resource: BUCKET, context: { 's3:prefix': 'exhibit/prod/' } }],
    ['decrypts through S3', { action: 'kms:Decrypt', resource: EVIDENCE_KEY, context: THROUGH_S3 }],
  ] as const)('%s', async (_, request) => {
    expect(await judge(READER, request)).toBe(ALLOWED);
  });

  test.each([
    ['lists what is beside the prefix', { action: 's3:ListBucket', resource: BUCKET, context: { 's3:prefix': '' } }],
    ['reads without TLS', onEvidence('s3:GetObject', { 'aws:SecureTransport': 'false' })],
    ['writes', onEvidence('s3:PutObject', CONDITIONAL)],
    ['deletes', onEvidence('s3:DeleteObject')],
    ['decrypts past S3', { action: 'kms:Decrypt', resource: EVIDENCE_KEY }],
    ['encrypts', { action: 'kms:GenerateDataKey', resource: EVIDENCE_KEY, context: THROUGH_S3 }],
    ['signs', { action: 'kms:Sign', resource: SEAL_KEY, context: OF_THE_SEAL }],
  ] as const)('never %s', async (_, request) => {
    expect(await judge(READER, request)).not.toBe(ALLOWED);
  });
});

describe('the custodian', () => {
  test.each([
    ['deletes what is over', onEvidence('s3:DeleteObjectVersion')],
    ['lifts a hold', onEvidence('s3:PutObjectLegalHold', { 's3:object-lock-legal-hold': 'OFF' })],
    ['changes the rules of the bucket', { action: 's3:PutBucketPolicy', resource: BUCKET }],
    ['changes the rules of a key', { action: 'kms:PutKeyPolicy', resource: EVIDENCE_KEY }],
    ['lets a key go', { action: 'kms:ScheduleKeyDeletion', resource: SEAL_KEY }],
  ] as const)('%s', async (_, request) => {
    expect(await judge(CUSTODIAN, request)).toBe(ALLOWED);
  });

  test.each([
    ['overwrites', onEvidence('s3:PutObject', CREATES)],
    ['decrypts', { action: 'kms:Decrypt', resource: EVIDENCE_KEY, context: THROUGH_S3 }],
    ['signs', { action: 'kms:Sign', resource: SEAL_KEY, context: OF_THE_SEAL }],
  ] as const)('never %s', async (_, request) => {
    expect(await judge(CUSTODIAN, request)).not.toBe(ALLOWED);
  });
});

describe("the agents' role", () => {
  const tags = {
    'aws:RequestTag/eks-cluster-arn': VALUES.cluster_arn ?? '',
    'aws:RequestTag/kubernetes-namespace': 'exhibit',
    'aws:RequestTag/kubernetes-service-account': 'exhibit-agent',
  };
  const byPodIdentity = (action: string, more: object = {}) =>
    judgeTrust('trust-pod-identity.json', 'pods.eks.amazonaws.com', { action, context: { ...tags, ...more } });

  test('is given to the agents by Pod Identity, with session tags', async () => {
    expect(await byPodIdentity('sts:AssumeRole')).toBe(ALLOWED);
    expect(await byPodIdentity('sts:TagSession')).toBe(ALLOWED);
  });

  test.each([
    ['another service account', { 'aws:RequestTag/kubernetes-service-account': 'default' }],
    ['another namespace', { 'aws:RequestTag/kubernetes-namespace': 'default' }],
    ['another cluster', { 'aws:RequestTag/eks-cluster-arn': 'arn:aws:eks:eu-central-1:999999999999:cluster/prod' }],
  ])('is not given to %s', async (_, more) => {
    expect(await byPodIdentity('sts:AssumeRole', more)).not.toBe(ALLOWED);
  });

  test('is not given without the session tags of Pod Identity', async () => {
    expect(
      await judgeTrust('trust-pod-identity.json', 'pods.eks.amazonaws.com', { action: 'sts:AssumeRole' }),
    ).not.toBe(ALLOWED);
  });

  const provider = VALUES.oidc_provider ?? '';
  const byIrsa = (claims: Readonly<Record<string, string>>) =>
    judgeTrust('trust-irsa.json', `arn:aws:iam::${VALUES.account}:oidc-provider/${provider}`, {
      action: 'sts:AssumeRoleWithWebIdentity',
      context: claims,
    });

  test('is given to their service account by IRSA, and to no other', async () => {
    const aud = { [`${provider}:aud`]: 'sts.amazonaws.com' };
    const sub = (name: string) => ({ [`${provider}:sub`]: `system:serviceaccount:exhibit:${name}` });
    expect(await byIrsa({ ...aud, ...sub('exhibit-agent') })).toBe(ALLOWED);
    expect(await byIrsa({ ...aud, ...sub('default') })).not.toBe(ALLOWED);
    expect(await byIrsa({ [`${provider}:aud`]: 'other', ...sub('exhibit-agent') })).not.toBe(ALLOWED);
    expect(await byIrsa(sub('exhibit-agent'))).not.toBe(ALLOWED);
  });
});
