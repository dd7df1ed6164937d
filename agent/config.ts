import os from 'node:os';
import { z } from 'zod';
import { RUNGS } from '../evidence/dump.ts';
import { ARTIFACTS, DEFAULT_ARTIFACTS } from '../evidence/layout.ts';
import { CONTENT_CLASSES } from '../evidence/volumes.ts';
import { byteSize } from './byte-size.ts';
import { baselinesSchema } from './capture/baselines-options.ts';
import { LOGS_DEFAULTS, NODE_LOG_SOURCES } from './collect/logs-options.ts';
import { INCLUDABLE, WHEN_LARGER } from './collect/memory-choices.ts';
import { VOLUMES_POLICY, WAITING } from './collect/volumes-policy.ts';
import {
  configFault,
  type EnvironmentKey,
  faultLines,
  isRecord,
  parseYaml,
  readConfigFile,
  withEnvironment,
} from './config-file.ts';
import { limitsSchema } from './limits.ts';
import { LOG_LEVELS } from './log-level.ts';
import { metricsSchema } from './machine-port.ts';
import { policySchema, unknownSinks } from './policy.ts';
import { signingSchema } from './sign/open.ts';
import { EVEN_WITH_FAULTS, type SinkConfig, sinkSchema, sinksSchema } from './sink/open.ts';
import { controllerSchema } from './trigger/controller-config.ts';
import { exitsSchema } from './trigger/exit-rules.ts';
import { requestFolderSchema } from './trigger/folder-options.ts';
import { scheduleBudgetSchema, scheduleFaults, schedulesSchema } from './trigger/schedule-options.ts';

const absolutePath = z.string().regex(/^\//, { error: 'an absolute path' });

const CONTAINERD_SOCKET = '/run/containerd/containerd.sock';
const DOCKER_SOCKET = '/var/run/docker.sock';

const runtimeFields = z.strictObject({
  /** `cri`: Kubernetes pods. `containerd`: any containerd namespace. `docker`: Docker's containers. `host`: no containers at all. */
  kind: z.enum(['cri', 'containerd', 'docker', 'host']).default('cri'),
  /** The runtime's usual one unless told. */
  socket: absolutePath.optional(),
  /** Of the containerd that Docker uses; looked for beside Docker's socket unless told. */
  containerdSocket: absolutePath.optional(),
  namespace: z.string().min(1).default('k8s.io'),
  /** Where the agent sees the node's root directory; empty when it runs right on the node. See host/host.ts. */
  hostRoot: z
    .string()
    .regex(/^(\/.*[^/])?$/, { error: 'empty, or an absolute path without a slash at its end' })
    .default(''),
  procRoot: absolutePath.default('/proc'),
});
const runtimeSchema = runtimeFields.transform((runtime) => {
  const usual = runtime.kind === 'docker' ? DOCKER_SOCKET : CONTAINERD_SOCKET;
  return { ...runtime, socket: runtime.socket ?? usual };
});

const memorySchema = z.strictObject({
  consistency: z.enum(['frozen', 'live']).default('frozen'),
  /** What a capture may hold of the target's memory; less where the node or the agent's own limit has less to give. */
  bufferBytes: byteSize.default(1 * 2 ** 30),
  /** What to do when more is in memory than the buffer holds. */
  whenLarger: z.enum(WHEN_LARGER).default('pre-copy'),
  /** Kinds of mappings to take; everything unless told. */
  include: z.array(z.enum(INCLUDABLE)).min(1).optional(),
});

const freezeSchema = z.strictObject({
  /** kubelet restarts a pod whose HTTP probes fail for 20 to 30 s with its defaults; stay well below. */
  deadlineMs: z.number().int().min(10).max(60_000).default(10_000),
  /** Who stops a container, see FreezeMethod in runtime/inspect.ts. */
  method: z.enum(['auto', 'runtime', 'cgroup']).default('auto'),
});

const checkpointSchema = z.strictObject({
  /** Which ways are allowed, and in which order those are tried that are expected to work; see capture/ladder.ts. */
  rungs: z
    .array(z.enum(RUNGS))
    .refine((rungs) => new Set(rungs).size === rungs.length, { error: 'each rung once' })
    .default([...RUNGS]),
  /** Room in memory for CRIU's files; less where the node has less than twice as much to give. */
  tmpfsBytes: byteSize.default(1 * 2 ** 30),
  /** When CRIU is expected to refuse: `try` one rung for its own words, or `skip` the checkpoint. */
  whenRefused: z.enum(['try', 'skip']).default('try'),
});

/** See LogsOptions in collect/logs-options.ts. */
const logsSchema = z.strictObject({
  containerBytes: byteSize.default(LOGS_DEFAULTS.containerBytes),
  node: z.array(z.enum(NODE_LOG_SOURCES)).default([...LOGS_DEFAULTS.node]),
  nodeBytes: byteSize.default(LOGS_DEFAULTS.nodeBytes),
  windowMarginMs: z.number().int().nonnegative().default(LOGS_DEFAULTS.windowMarginMs),
  windowMaxMs: z.number().int().positive().default(LOGS_DEFAULTS.windowMaxMs),
  units: z.array(z.string().min(1)).default([...LOGS_DEFAULTS.units]),
});

/** What is taken of what is mounted into the container; docs/volumes.md. */
const volumesSchema = z.strictObject({
  content: z
    .array(z.enum(CONTENT_CLASSES))
    .default(() => CONTENT_CLASSES.filter((one) => VOLUMES_POLICY.content.includes(one))),
  contentBytes: byteSize.default(VOLUMES_POLICY.contentBytes),
  fileBytes: byteSize.default(VOLUMES_POLICY.fileBytes),
  entries: z.number().int().min(1).default(VOLUMES_POLICY.entries),
  nodePaths: z.array(absolutePath).default(() => [...VOLUMES_POLICY.nodePaths]),
  waiting: z.enum(WAITING).default(VOLUMES_POLICY.waiting),
});

const commonSchema = z.strictObject({
  cluster: z.string().min(1).default('local'),
  node: z
    .string()
    .min(1)
    .default(() => os.hostname()),
  /** The agent's own pod, NAMESPACE/NAME, for people who look for it; empty outside Kubernetes. */
  pod: z.string().max(512).default(''),
  /** The central controller, which the agent dials; none unless told. */
  controller: controllerSchema.optional(),
  /** The root-only API socket. */
  socket: absolutePath.default('/run/exhibit/exhibit.sock'),
  /** Journal and FIFOs; on a tmpfs, so that the node's disk is not written. A path both the agent and the runtime see. */
  stateDir: absolutePath.default('/run/exhibit'),
  runtime: runtimeSchema.prefault({}),
  artifacts: z
    .array(z.enum(ARTIFACTS))
    .min(1)
    .default([...DEFAULT_ARTIFACTS]),
  scope: z.enum(['container', 'pod']).default('container'),
  memory: memorySchema.prefault({}),
  freeze: freezeSchema.prefault({}),
  checkpoint: checkpointSchema.prefault({}),
  logs: logsSchema.prefault({}),
  volumes: volumesSchema.prefault({}),
  /** What the agent lets itself be asked for; docs/policy.md. */
  policy: policySchema.prefault({}),
  /** What is left to the node's own work; docs/good-neighbour.md. */
  limits: limitsSchema.prefault({}),
  /** Which containers that end are captured; docs/exits.md. */
  exits: exitsSchema.prefault({}),
  compression: z.strictObject({ level: z.number().int().min(0).max(19).default(1) }).prefault({}),
  /** Where evidence waits that a sink did not take; docs/spool.md. */
  spool: z
    .strictObject({
      path: absolutePath.optional(),
      bytes: byteSize.default(512 * 2 ** 20),
      disk: z.boolean().default(false),
      keyFile: absolutePath.optional(),
    })
    .prefault({}),
  baselines: baselinesSchema.prefault({}),
  signing: signingSchema.prefault({}),
  /** To whom evidence is encrypted on the node; docs/encryption.md. */
  encryption: z
    .strictObject({
      recipients: z
        .array(z.string().regex(/^age1/, { error: 'a recipient of age (age1...), never an identity' }))
        .default([]),
      recipientsFile: absolutePath.optional(),
    })
    .prefault({}),
  /** The port of metrics and probes; docs/metrics.md. Absent: there is none. */
  metrics: metricsSchema.optional(),
  /** docs/request-folder.md; absent: there is none. */
  requestFolder: requestFolderSchema.optional(),
  /** docs/schedules.md. */
  schedules: schedulesSchema,
  scheduleBudget: scheduleBudgetSchema,
  log: z.strictObject({ level: z.enum(LOG_LEVELS).default('info') }).prefault({}),
});

/** One sink, named `default`. */
export const oneSinkSchema = commonSchema
  .extend({ sink: sinkSchema, defaultSinks: z.undefined({ error: 'nothing: this goes with sinks' }).optional() })
  .transform(({ sink, ...rest }) => ({ ...rest, sinks: [{ name: 'default', sink }] }));

export const severalSinksSchema = commonSchema
  .extend({
    sinks: sinksSchema,
    /** Where a capture goes whose request does not say; all of them unless told. */
    defaultSinks: z.array(z.string()).min(1, { error: 'a name of a sink or more' }).optional(),
    sink: z.undefined({ error: 'nothing: sinks is given, so make this one of them' }).optional(),
  })
  .superRefine(({ sinks, defaultSinks }, context) => {
    const known = Object.keys(sinks ?? {});
    for (const [index, name] of (Array.isArray(defaultSinks) ? defaultSinks : []).entries()) {
      if (known.includes(name)) continue;
      context.addIssue({ code: 'custom', path: ['defaultSinks', index], message: `one of ${known.join(', ')}` });
    }
  }, EVEN_WITH_FAULTS)
  .transform(({ sink: _, sinks, ...rest }) => ({
    ...rest,
    sinks: Object.entries(sinks).map(([name, sink]) => ({ name, sink })),
  }));

export type Config = z.output<typeof commonSchema> & {
  readonly sinks: readonly { readonly name: string; readonly sink: SinkConfig }[];
  readonly defaultSinks?: readonly string[] | undefined;
};

/** What Kubernetes injects wins over the file: environment variable -> path in the configuration. */
const ENVIRONMENT: readonly EnvironmentKey[] = [
  ['EXHIBIT_CLUSTER', ['cluster']],
  ['EXHIBIT_NODE', ['node']],
  ['EXHIBIT_POD', ['pod']],
  ['EXHIBIT_SOCKET', ['socket']],
  ['EXHIBIT_STATE_DIR', ['stateDir']],
  ['EXHIBIT_CONTROLLER_ADDRESS', ['controller', 'address']],
  ['EXHIBIT_CONTROLLER_CA_FILE', ['controller', 'caFile']],
  ['EXHIBIT_CONTROLLER_CERT_FILE', ['controller', 'certFile']],
  ['EXHIBIT_CONTROLLER_KEY_FILE', ['controller', 'keyFile']],
  ['EXHIBIT_RUNTIME_KIND', ['runtime', 'kind']],
  ['EXHIBIT_RUNTIME_SOCKET', ['runtime', 'socket']],
  ['EXHIBIT_HOST_ROOT', ['runtime', 'hostRoot']],
  ['EXHIBIT_PROC_ROOT', ['runtime', 'procRoot']],
  ['EXHIBIT_SINK_URL', ['sink', 'url']],
  ['EXHIBIT_RECIPIENTS_FILE', ['encryption', 'recipientsFile']],
  ['EXHIBIT_SIGNING_KEY_FILE', ['signing', 'keyFile']],
  ['EXHIBIT_LOG_LEVEL', ['log', 'level']],
];

/** What stands where a recipient should may be an identity: it is not repeated. */
const isSecret = (path: readonly PropertyKey[]): boolean => path[0] === 'encryption';

export async function loadConfig(file: string, env: NodeJS.ProcessEnv): Promise<Config> {
  return parseConfig(await readConfigFile(file), file, env);
}

/** Pure: the text, its name for messages, the environment. Every fault is named at once, each with its path. */
export function parseConfig(text: string, file: string, env: NodeJS.ProcessEnv): Config {
  const given = parseYaml(text, file);
  const several = isRecord(given) && 'sinks' in given;
  // A url of its own would be of none of the sinks.
  const stray = several && (env.EXHIBIT_SINK_URL ?? '') !== '';
  const merged = withEnvironment(given, stray ? { ...env, EXHIBIT_SINK_URL: '' } : env, ENVIRONMENT);
  const parsed = (several ? severalSinksSchema : oneSinkSchema).safeParse(merged);
  const strange = parsed.success ? [...strangeSinks(parsed.data), ...scheduleFaults(parsed.data)] : [];
  if (parsed.success && !stray && strange.length === 0) return parsed.data;
  throw configFault(file, [
    ...strange,
    ...(stray ? ['EXHIBIT_SINK_URL: expected nothing, since sinks is given: write the url into one of them'] : []),
    ...(parsed.error?.issues ?? []).flatMap((issue) =>
      faultLines(issue, given, { document: 'docs/configuration.md', isSecret }),
    ),
  ]);
}

/** Rules that name sinks name those of this configuration. */
function strangeSinks({ sinks, policy, exits }: Config): string[] {
  const known = sinks.map(({ name }) => name);
  const line = (key: string, name: string) => `${key}: expected ${known.join(' or ')}, found ${JSON.stringify(name)}`;
  const ofExits = exits.rules.flatMap((rule) => rule.sinks ?? []).filter((name) => !known.includes(name));
  return [
    ...unknownSinks(policy, known).map((name) => line('sinks of policy', name)),
    ...ofExits.map((name) => line('sinks of exits.rules', name)),
  ];
}
