import os from 'node:os';
import { z } from 'zod';
import {
  configFault,
  type EnvironmentKey,
  faultLines,
  parseYaml,
  readConfigFile,
  withEnvironment,
} from '../agent/config-file.ts';
import { LOG_LEVELS } from '../agent/log-level.ts';
import { metricsSchema } from '../agent/machine-port.ts';
import { alertsSchema } from './alerts/config.ts';
import { identitySchema } from './identity/operators.ts';
import { PATTERN } from './identity/rights.ts';
import { storeSchema } from './store/open.ts';
import { listenerSchema } from './tls/files.ts';

/** The controller's configuration; docs/controller.md. */

const listenerAt = (usual: string) => listenerSchema.extend({ listen: listenerSchema.shape.listen.default(usual) });

const patterns = z
  .array(z.string().regex(PATTERN, { error: 'letters, digits, dots, dashes, underscores, and * for any of them' }))
  .min(1)
  .max(100);

const SECOND_MS = 1_000;
const MINUTE_MS = 60_000;
const WEEK_MS = 7 * 24 * 60 * MINUTE_MS;
const expiresMs = (usual: number) => z.number().int().min(SECOND_MS).max(WEEK_MS).default(usual);

/** Captures there wait for a second person. */
const approvalSchema = z.strictObject({
  clusters: patterns.default(['*']),
  namespaces: patterns,
  /** Time enough to wake somebody. */
  expiresMs: expiresMs(60 * MINUTE_MS),
});

export const configSchema = z.strictObject({
  /** For logs: which of several replicas this is. */
  name: z
    .string()
    .min(1)
    .max(253)
    .default(() => os.hostname()),
  /** Where agents dial in; every one shows a certificate. */
  agents: listenerAt('0.0.0.0:7443'),
  /** Where people and machines call: gRPC, and JSON over HTTP. */
  api: listenerAt('0.0.0.0:8443'),
  store: storeSchema.prefault({}),
  identity: identitySchema.prefault({}),
  approvals: z.array(approvalSchema).max(100).default([]),
  captures: z
    .strictObject({
      /** What was asked for in an incident is not wanted hours later, when the node is back. */
      expiresMs: expiresMs(10 * MINUTE_MS),
    })
    .prefault({}),
  alerts: alertsSchema.optional(),
  /** The port of metrics and probes; docs/metrics.md. Absent: there is none. */
  metrics: metricsSchema.optional(),
  log: z.strictObject({ level: z.enum(LOG_LEVELS).default('info') }).prefault({}),
});
export type ControllerConfig = z.output<typeof configSchema>;

const ENVIRONMENT: readonly EnvironmentKey[] = [
  ['EXHIBIT_CONTROLLER_NAME', ['name']],
  ['EXHIBIT_AGENTS_LISTEN', ['agents', 'listen']],
  ['EXHIBIT_API_LISTEN', ['api', 'listen']],
  ['EXHIBIT_STORE_URL', ['store', 'url']],
  ['EXHIBIT_STORE_PASSWORD_FILE', ['store', 'passwordFile']],
  ['EXHIBIT_LOG_LEVEL', ['log', 'level']],
];

/** A database's URL may hold a password. */
const isSecret = (path: readonly PropertyKey[]): boolean => path[0] === 'store';

/** @throws ExhibitError `config`: every fault at once, each with its path */
export async function loadConfig(file: string, env: NodeJS.ProcessEnv): Promise<ControllerConfig> {
  return parseConfig(await readConfigFile(file), file, env);
}

export function parseConfig(text: string, file: string, env: NodeJS.ProcessEnv): ControllerConfig {
  const given = parseYaml(text, file);
  const parsed = configSchema.safeParse(withEnvironment(given, env, ENVIRONMENT));
  if (parsed.success) return parsed.data;
  const words = { document: 'docs/controller.md', isSecret };
  throw configFault(
    file,
    parsed.error.issues.flatMap((issue) => faultLines(issue, given, words)),
  );
}
