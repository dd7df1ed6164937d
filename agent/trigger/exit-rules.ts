import { z } from 'zod';
import type { ArtifactName } from '../../evidence/layout.ts';
import { matchesPattern } from '../policy.ts';
import type { ContainerSummary } from '../runtime/runtime.ts';

/** Which containers that end are worth a capture, and of what: the key `exits` of the configuration, docs/exits.md. Pure. */

const pattern = z.string().min(1).max(253);

const matchSchema = z.strictObject({
  /** Only those that ended because memory ran out. */
  oom: z.literal(true).optional(),
  /** Every one where `oom` is given, else `nonzero`, unless told. */
  exitCodes: z.union([z.enum(['nonzero', 'any']), z.array(z.number().int().min(0).max(255)).min(1)]).optional(),
  /** `*` stands for any text. A container of no pod fits only where this is not given. */
  namespaces: z.array(pattern).min(1).optional(),
  /** All of them; of the pod or the container. */
  labels: z.record(z.string(), z.string()).optional(),
  /** Of containers; `*` stands for any text. */
  names: z.array(pattern).min(1).optional(),
});

/** What there is of a container that has ended. */
export const KEPT_ARTIFACTS = ['rootfs', 'logs', 'spec', 'image'] as const satisfies readonly ArtifactName[];
export const DEFAULT_KEPT: readonly ArtifactName[] = ['rootfs', 'logs', 'spec'];

const ruleSchema = z.strictObject({
  /** For the log and the custody record; its place in the list unless told. */
  name: z.string().min(1).max(100).optional(),
  match: matchSchema.prefault({}),
  artifacts: z.array(z.enum(KEPT_ARTIFACTS)).min(1).optional(),
  case: z.string().max(200).default(''),
  reason: z.string().max(1000).default(''),
  sinks: z.array(z.string().min(1)).min(1).optional(),
});
export type ExitRule = z.output<typeof ruleSchema>;

export const exitsSchema = z.strictObject({
  /** The first that fits decides. */
  rules: z.array(ruleSchema).max(100).default([]),
  bound: z
    .strictObject({
      /** Captures at a time. */
      concurrent: z.number().int().min(1).max(16).default(2),
      perMinute: z.number().int().min(1).max(600).default(30),
      /** How many ended containers may wait for their turn. */
      queue: z.number().int().min(1).max(10_000).default(100),
    })
    .prefault({}),
  /** Containers that ended while nobody listened are looked for when somebody does again, if they ended within this. */
  maxAgeMs: z.number().int().nonnegative().max(86_400_000).default(600_000),
});
export type ExitsConfig = z.output<typeof exitsSchema>;

export interface Ended {
  readonly exitCode: number;
  readonly oom: boolean;
  readonly container: Pick<ContainerSummary, 'name' | 'pod' | 'labels'>;
}

export function ruleFor(rules: readonly ExitRule[], ended: Ended): ExitRule | undefined {
  return rules.find(({ match }) => fits(match, ended));
}

function fits({ oom, exitCodes, namespaces, labels, names }: ExitRule['match'], ended: Ended): boolean {
  const { name, pod, labels: has } = ended.container;
  if (oom === true && !ended.oom) return false;
  if (!fitsCode(exitCodes ?? (oom === true ? 'any' : 'nonzero'), ended.exitCode)) return false;
  if (namespaces !== undefined && !namespaces.some((one) => pod !== undefined && matchesPattern(pod.namespace, one)))
    return false;
  if (names !== undefined && !names.some((one) => matchesPattern(name, one))) return false;
  return Object.entries(labels ?? {}).every(([key, value]) => has.get(key) === value);
}

function fitsCode(wanted: NonNullable<ExitRule['match']['exitCodes']>, exitCode: number): boolean {
  if (wanted === 'any') return true;
  return wanted === 'nonzero' ? exitCode !== 0 : wanted.includes(exitCode);
}
