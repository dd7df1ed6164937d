import type { ArtifactName } from '../../evidence/layout.ts';
import { type OpenReader, openReader } from '../host/procfs-reader.ts';
import { codeCacheOf } from '../host/small-process.ts';
import type { HostPath } from '../runtime/runtime.ts';
import { createCheckpointCollector } from './checkpoint.ts';
import type { Collector } from './collector.ts';
import { imageCollector } from './image.ts';
import { logsCollector } from './logs.ts';
import type { LogsOptions } from './logs-options.ts';
import { type MemoryOptions, memoryCollector } from './memory.ts';
import { networkCollector } from './network.ts';
import { nodeCollector } from './node.ts';
import { processesCollector } from './processes.ts';
import { rootfsCollector } from './rootfs.ts';
import { specCollector } from './spec.ts';
import { volumesCollector } from './volumes.ts';
import type { VolumesPolicy } from './volumes-policy.ts';

/** What the configuration says of single artifacts. */
export interface CollectorOptions {
  readonly memory: Pick<MemoryOptions, 'whenLarger' | 'include'>;
  readonly takeThread?: MemoryOptions['takeThread'];
  readonly limits?: { readonly memory: { readonly minAvailableBytes: number } };
  readonly volumes: VolumesPolicy;
  readonly logs: LogsOptions;
}

/**
 * Who takes which artifact; the mapped type forces one collector an artifact. `runDir` is the agent's folder on a tmpfs, where
 * the checkpoint's FIFO is made and the reader of /proc leaves its compiled code.
 */
export function allCollectors(
  runDir: HostPath,
  options: CollectorOptions,
): Readonly<{ [Name in ArtifactName]: Collector }> {
  const withCache: OpenReader = (host) => openReader(host, { codeCache: codeCacheOf(host, runDir) });
  return {
    processes: processesCollector({ openReader: withCache }),
    network: networkCollector({ openReader: withCache }),
    node: nodeCollector({ openReader: withCache }),
    memory: memoryCollector({
      ...options.memory,
      takeThread: options.takeThread,
      keptBytes: options.limits?.memory.minAvailableBytes,
    }),
    checkpoint: createCheckpointCollector({ runDir }),
    volumes: volumesCollector({ policy: options.volumes }),
    rootfs: rootfsCollector,
    logs: logsCollector(options.logs),
    spec: specCollector,
    image: imageCollector,
  };
}
