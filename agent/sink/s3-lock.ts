import { z } from 'zod';
import { matchesPattern } from '../../evidence/wildcard.ts';
import type { ObjectSubject } from './sink.ts';

/** S3's own limit for a default retention: 100 years (User Guide, "Object Lock considerations"). */
const MAX_RETAIN_DAYS = 36_500;
/** A case pattern is written by a person; more of them than this belong into buckets of their own. */
const MAX_CASES = 100;
const MAX_PATTERN_LENGTH = 256;

export const DAY_MS = 86_400_000;

const fields = {
  mode: z.enum(['GOVERNANCE', 'COMPLIANCE']).optional(),
  retainDays: z.number().int().min(1).max(MAX_RETAIN_DAYS).optional(),
  legalHold: z.boolean().optional(),
};

/** The `objectLock` section of a sink. The first case whose pattern matches is laid over what stands beside it. */
export const objectLockSchema = z
  .strictObject({
    ...fields,
    cases: z
      .array(z.strictObject({ match: z.string().min(1).max(MAX_PATTERN_LENGTH), ...fields }))
      .max(MAX_CASES)
      .optional(),
  })
  .superRefine((lock, context) => {
    if (lock.mode === undefined && lock.retainDays === undefined && !lock.legalHold && !lock.cases?.length) {
      context.addIssue({ code: 'custom', message: 'mode and retainDays, or legalHold: true, or cases' });
    }
    const all = [
      { path: [], ...lock },
      ...(lock.cases ?? []).map((one, at) => ({ path: ['cases', at], ...lock, ...defined(one) })),
    ];
    for (const { path, mode, retainDays } of all) {
      if ((mode === undefined) === (retainDays === undefined)) continue;
      context.addIssue({
        code: 'custom',
        path: [...path, mode === undefined ? 'mode' : 'retainDays'],
        message: 'mode and retainDays: S3 takes both or neither',
      });
    }
  });
export type ObjectLockConfig = z.output<typeof objectLockSchema>;

/** What is asked for one object. */
export interface ObjectLock {
  readonly retention?: { readonly mode: 'GOVERNANCE' | 'COMPLIANCE'; readonly retainDays: number };
  readonly legalHold: boolean;
}

/** The lock of what belongs to this case; the empty case matches no pattern. Pure. */
export function lockOfCase(config: ObjectLockConfig, caseId: string): ObjectLock {
  const ofCase = caseId === '' ? undefined : config.cases?.find(({ match }) => matchesPattern(match, caseId));
  const { mode, retainDays, legalHold = false } = { ...config, ...defined(ofCase ?? {}) };
  return {
    ...(mode === undefined || retainDays === undefined ? {} : { retention: { mode, retainDays } }),
    legalHold,
  };
}

/** Retention counts from the beginning of the capture, so that all of its objects may go at the same moment. Pure. */
export function retainUntilMs(lock: ObjectLock, about: Pick<ObjectSubject, 'startedAtMs'>): number | undefined {
  return lock.retention === undefined ? undefined : about.startedAtMs + lock.retention.retainDays * DAY_MS;
}

/**
 * The request's fields. What waited so long that its date has come is kept for one day all the same: S3 refuses a date in
 * the past, and the evidence with it. Pure.
 */
export function lockRequest(lock: ObjectLock, untilMs: number | undefined, nowMs: number) {
  return {
    ...(lock.retention === undefined || untilMs === undefined
      ? {}
      : {
          ObjectLockMode: lock.retention.mode,
          ObjectLockRetainUntilDate: new Date(Math.max(untilMs, nowMs + DAY_MS)),
        }),
    ...(lock.legalHold ? { ObjectLockLegalHoldStatus: 'ON' as const } : {}),
  };
}

/** All that the configuration could ask for at once, for a request that proves the rights and the bucket. Pure. */
export function strictestLock(config: ObjectLockConfig): ObjectLock {
  const all = [config, ...(config.cases ?? []).map((one) => ({ ...config, ...defined(one) }))];
  const retained = all.find(({ mode, retainDays }) => mode !== undefined && retainDays !== undefined);
  return {
    ...(retained?.mode === undefined || retained.retainDays === undefined
      ? {}
      : { retention: { mode: retained.mode, retainDays: retained.retainDays } }),
    legalHold: all.some(({ legalHold }) => legalHold === true),
  };
}

function defined<T extends object>(fields: T): Partial<T> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Partial<T>;
}
