/** Checkpoints through containerd's own Tasks service: CRIU's files go straight to a folder, with options CRI does not pass. */
import { loadRunc, loadTasks } from '../../proto/load.ts';
import { type Endpoint, unary } from './call.ts';
import type { CheckpointRung } from './runtime.ts';

/** The runc shim knows its options by this name, without a host before it. */
const OPTIONS_TYPE = 'containerd.runc.v1.CheckpointOptions';

/**
 * With an image path containerd neither pauses the task nor stores blobs: CRIU alone stops it, for as long as it reads.
 * @param endpoint of the containerd that has the target as a task, in its namespace
 */
export function tasksRung(endpoint: Endpoint): CheckpointRung {
  return {
    name: 'tasks',
    delivers: 'images',
    passes: ['openTcp', 'fileLocks', 'externalUnixSockets'],
    async checkpoint({ record }, { images, work }, options) {
      const value = loadRunc().CheckpointOptions.serialize({ ...options, imagePath: images, workPath: work });
      const request = { containerId: record.id, options: { type_url: OPTIONS_TYPE, value } };
      await unary(endpoint, loadTasks().Tasks.service.Checkpoint, request, { timeoutMs: 'none' });
    },
  };
}
