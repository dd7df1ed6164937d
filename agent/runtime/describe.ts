/** What containerd says of itself, for the doctor: who keeps files, what starts containers, whether checkpoints are allowed. */
import { z } from 'zod';
import { explain, isExhibitError } from '../../evidence/error.ts';
import type { Container__Output } from '../../proto/gen/containerd/services/containers/v1/Container.ts';
import type { StatusResponse__Output } from '../../proto/gen/runtime/v1/StatusResponse.ts';
import type { ContainerdClient } from './containerd-client.ts';
import type { RuntimeDescription, SnapshotterFinding } from './runtime.ts';
import { jsonOf, rootfsOf } from './snapshot.ts';

/** Of how many containers of one snapshotter the layers are asked for until one can be read. */
const TRIED_CONTAINERS = 3;

/** The part that every containerd can tell, CRI or not. */
export async function describeContainerd(
  client: ContainerdClient,
  namespace: string,
  signal: AbortSignal,
): Promise<RuntimeDescription> {
  const containers = (await client.containers({ signal })).filter(
    ({ snapshotKey, labels }) => snapshotKey !== '' && labels['io.cri-containerd.kind'] !== 'sandbox',
  );
  const bySnapshotter = Map.groupBy(containers, ({ snapshotter }) => snapshotter);
  const snapshotters = await Promise.all(
    [...bySnapshotter].map(([name, theirs]) => trySnapshotter(client, name, theirs, signal)),
  );
  snapshotters.sort((a, b) => b.containers - a.containers);
  return { namespace, unmet: [], snapshotters, programs: [] };
}

async function trySnapshotter(
  client: ContainerdClient,
  name: string,
  containers: readonly Container__Output[],
  signal: AbortSignal,
): Promise<SnapshotterFinding> {
  let obstacle: string | undefined;
  for (const { snapshotKey } of containers.slice(0, TRIED_CONTAINERS)) {
    try {
      const finding = rootfsOf(await client.mounts(name, snapshotKey, { signal }));
      if ('rootfs' in finding) return { name, containers: containers.length };
      obstacle = finding.note;
    } catch (error) {
      if (isExhibitError(error, 'cancelled') || isExhibitError(error, 'runtime-unreachable')) throw error;
      obstacle = explain(error);
    }
  }
  return { name, containers: containers.length, obstacle: obstacle ?? 'none of its containers could be asked for' };
}

const runtimeSchema = z.looseObject({
  options: z.looseObject({ BinaryName: z.string().optional() }).nullish(),
});
const configSchema = z.looseObject({
  containerd: z.looseObject({ runtimes: z.record(z.string(), runtimeSchema).nullish() }).nullish(),
});

/** Pure: what a verbose answer of CRI's Status says; parts of it that are not as expected are left out. */
export function describeStatus(
  answer: StatusResponse__Output,
): Pick<RuntimeDescription, 'unmet' | 'programs' | 'checkpoints'> {
  const conditions = answer.status?.conditions ?? [];
  const unmet = conditions
    .filter(({ type, status }) => !status && /Ready$/.test(type))
    .map(({ type, message }) => `${type}: ${message}`);
  const config = configSchema.safeParse(jsonOf(answer.info.config ?? ''));
  if (!config.success) return { unmet, programs: [] };
  const runtimes = Object.values(config.data.containerd?.runtimes ?? {});
  // Without a name the shim starts runc from its PATH.
  const programs = runtimes.map(({ options }) => options?.BinaryName || 'runc');
  const checkpoints = checkpointSwitch(config.data);
  return { unmet, programs: [...new Set(programs)], ...(checkpoints === undefined ? {} : { checkpoints }) };
}

/** The option is `enable_criu` in the configuration; JSON writes some of them one way and some the other. */
function checkpointSwitch(config: Readonly<Record<string, unknown>>): boolean | undefined {
  const key = Object.keys(config).find((name) => /^enable_?criu$/i.test(name));
  const value = key === undefined ? undefined : config[key];
  return typeof value === 'boolean' ? value : undefined;
}
