import { z } from 'zod';

/** The `serverSideEncryption` section of a sink. */
export const encryptionSchema = z
  .strictObject({
    kind: z.enum(['AES256', 'aws:kms', 'aws:kms:dsse']),
    /** Id, ARN or alias of the KMS key; the account's own key for S3 when absent. */
    keyId: z.string().min(1).max(2048).optional(),
    /** One data key of the bucket in place of one an object: fewer calls of KMS. */
    bucketKey: z.boolean().optional(),
  })
  .superRefine(({ kind, keyId, bucketKey }, context) => {
    if (kind === 'AES256' && keyId !== undefined) {
      context.addIssue({ code: 'custom', path: ['keyId'], message: 'nothing: AES256 uses keys of S3 itself' });
    }
    if (kind !== 'aws:kms' && bucketKey !== undefined) {
      context.addIssue({ code: 'custom', path: ['bucketKey'], message: 'nothing: bucket keys are for aws:kms only' });
    }
  });
export type EncryptionConfig = z.output<typeof encryptionSchema>;

/** The request's fields. Pure. */
export function encryptionRequest({ kind, keyId, bucketKey }: EncryptionConfig) {
  return {
    ServerSideEncryption: kind,
    ...(keyId === undefined ? {} : { SSEKMSKeyId: keyId }),
    ...(bucketKey === undefined ? {} : { BucketKeyEnabled: bucketKey }),
  };
}
