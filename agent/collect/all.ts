import type { ArtifactName } from '../../evidence/layout.ts';
import { type OpenReader, openReader } from '../host/procfs-reader.ts';
import { codeCacheOf } from '../host/small-process.ts';
import type { HostPath } from '../runtime/runtime.ts';
import { createCheckpointCollector } from './checkpoint.ts';
import type { Collector } from './collector.ts';
import { logsCollector } from './logs.ts';
import { type MemoryOptions, memoryCollector } from './memory.ts';
import { networkCollector } from './network.ts';
import { processesCollector } from './processes.ts';
import { rootfsCollector } from './rootfs.ts';
import { specCollector } from './spec.ts';

/**
 * Who takes which artifact; the mapped type forces one collector an artifact. `runDir` is the agent's folder on a tmpfs, where
 * the checkpoint's FIFO is made and the reader of /proc leaves its compiled code.
 */
export function allCollectors(
  runDir: HostPath,
  memory: Pick<MemoryOptions, 'whenLarger' | 'include'>,
): Readonly<{ [Name in ArtifactName]: Collector }> {
  const withCache: OpenReader = (host) => openReader(host, { codeCache: codeCacheOf(host, runDir) });
  return {
    processes: processesCollector({ openReader: withCache }),
    network: networkCollector({ openReader: withCache }),
    memory: memoryCollector(memory),
    checkpoint: createCheckpointCollector({ runDir }),
    rootfs: rootfsCollector,
    logs: logsCollector,
    spec: specCollector,
  };
}
