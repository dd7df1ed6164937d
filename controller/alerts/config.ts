import { z } from 'zod';
import { ARTIFACTS } from '../../evidence/layout.ts';
import { PATTERN } from '../identity/rights.ts';
import { PRIORITIES } from './alert.ts';
import { unknownNames } from './template.ts';

/** What the controller's configuration says under `alerts`; see docs/alerts.md. */

const NAME = /^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$/;
const name = z.string().regex(NAME, { error: 'lower-case letters, digits, and . _ - between them' });
const pattern = z.string().min(1).max(253);
const places = z
  .array(z.string().regex(PATTERN, { error: 'letters, digits, dots, dashes, underscores, and * for any of them' }))
  .min(1)
  .max(100);
const absolutePath = z.string().regex(/^\//, { error: 'an absolute path' });

const template = z
  .string()
  .min(1)
  .max(500)
  .superRefine((text, context) => {
    for (const unknown of unknownNames(text)) {
      context.addIssue({
        code: 'custom',
        message: `no alert has {${unknown}}; write {field:NAME} for a field of the payload`,
      });
    }
  });

/** The file holds the secret, or several, one a line, so that the next one can be put beside the old. */
const secretSchema = z.union([
  z.strictObject({ bearerFile: absolutePath }),
  z.strictObject({
    header: z.string().regex(/^[a-z0-9-]{1,64}$/, { error: 'a header in lower case' }),
    file: absolutePath,
  }),
  z.strictObject({ basicUser: z.string().min(1).max(128), file: absolutePath }),
  /** The name of an operator whose client certificate the source shows. */
  z.strictObject({ certificate: z.string().min(1).max(253) }),
]);
export type SecretConfig = z.infer<typeof secretSchema>;

const grantSchema = z.strictObject({ clusters: places, namespaces: places });

/** More in an hour would be a fleet, not an incident. */
const perHour = (usual: number) => z.number().int().min(1).max(1000).default(usual);
const HOUR_MS = 3_600_000;

const labelsSchema = z.strictObject({
  namespace: z.string().default('namespace'),
  pod: z.string().default('pod'),
  container: z.string().default('container'),
});

const sourceSchema = z
  .strictObject({
    kind: z.enum(['falco', 'alertmanager', 'guardduty']),
    secret: secretSchema,
    /** Where its alerts may capture. */
    grants: z.array(grantSchema).min(1),
    /** All of its alerts are of this cluster. */
    cluster: z.string().min(1).max(253).optional(),
    /** The field or label that names the cluster. */
    clusterFrom: z.string().min(1).max(253).optional(),
    /** What the source calls a cluster, and what its agents call it. */
    clusterNames: z.record(z.string(), z.string()).default({}),
    /** The field or label that names the node: only its agent is asked then. */
    nodeFrom: z.string().min(1).max(253).optional(),
    /** Of Alertmanager's alerts. */
    labels: labelsSchema.default(labelsSchema.parse({})),
    perHour: perHour(30),
    /** An alert that is older is not acted on: what it saw is gone, or somebody sends it again. */
    maxAgeMs: z.number().int().min(1000).max(86_400_000).default(HOUR_MS),
  })
  .superRefine((source, context) => {
    if (source.cluster !== undefined && source.clusterFrom !== undefined) {
      context.addIssue({ code: 'custom', message: 'cluster and clusterFrom exclude each other' });
    }
    if (source.kind !== 'guardduty' && source.cluster === undefined && source.clusterFrom === undefined) {
      context.addIssue({
        code: 'custom',
        message: `alerts of ${source.kind} do not name a cluster: set cluster or clusterFrom`,
      });
    }
  });
export type SourceConfig = z.infer<typeof sourceSchema>;

const matchSchema = z.strictObject({
  source: pattern.optional(),
  /** Falco's rule, the alertname, the finding's type. */
  rule: pattern.optional(),
  /** At least this, in Falco's words. */
  priority: z.enum(PRIORITIES).optional(),
  /** At least this, in GuardDuty's numbers. */
  severity: z.number().min(0).max(10).optional(),
  clusters: z.array(pattern).min(1).optional(),
  namespaces: z.array(pattern).min(1).optional(),
  /** Each of these fields is there and as its pattern says. */
  labels: z.record(z.string(), pattern).optional(),
  /** Each of these is among the alert's. */
  tags: z.array(pattern).min(1).optional(),
});
export type MatchConfig = z.infer<typeof matchSchema>;

const captureSchema = z.strictObject({
  artifacts: z.array(z.enum(ARTIFACTS)).default([]),
  consistency: z.enum(['frozen', 'live']).optional(),
  scope: z.enum(['container', 'pod']).optional(),
  sinks: z.array(z.string()).default([]),
  /** Of one alert; nothing is captured where more match. */
  maxTargets: z.number().int().min(1).max(50).default(1),
  reason: template.default('{source}: {rule}'),
  /** A selector of labels instead of what the alert names: `app={workload}`. */
  target: template.optional(),
  /** `pod`: when the container is gone, the other containers of its pod. */
  whenGone: z.enum(['nothing', 'pod']).default('nothing'),
});
export type CaptureConfig = z.infer<typeof captureSchema>;

const ruleSchema = z.strictObject({
  name,
  match: matchSchema.default({}),
  do: z.union([
    z.strictObject({ ignore: z.literal(true) }),
    z.strictObject({ capture: captureSchema, case: template.optional() }),
  ]),
  perHour: perHour(10),
});
export type RuleConfig = z.infer<typeof ruleSchema>;

export const alertsSchema = z
  .strictObject({
    sources: z.record(name, sourceSchema),
    /** The first that matches counts; an alert that none matches is ignored. */
    rules: z.array(ruleSchema).max(500),
    /** All captures of all alerts, over all replicas. */
    perHour: perHour(60),
    /** The same source, rule and target within it is one alert. */
    duplicateWindowMs: z.number().int().min(1000).max(86_400_000).default(HOUR_MS),
  })
  .superRefine(({ rules }, context) => {
    const names = rules.map((rule) => rule.name);
    const twice = names.filter((one, index) => names.indexOf(one) !== index);
    for (const one of new Set(twice)) context.addIssue({ code: 'custom', message: `two rules have the name ${one}` });
  });
export type AlertsConfig = z.infer<typeof alertsSchema>;
