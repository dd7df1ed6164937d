import { ExhibitError } from '../../evidence/error.ts';
import { leastRoomBytes, memoryRoom } from './memory-room.ts';

/**
 * What an agent takes until it listens, beyond the command that has only just begun: 66 MiB of anonymous memory in all were measured
 * (docs/doctor.md), of which the command has half.
 */
const START_BYTES = 48 * 2 ** 20;

/**
 * Refuses to start an agent that the kernel would end in the middle of its start, without a word and again and again, or for which it
 * would end somebody else on the node. Throws ExhibitError `config` where the agent's own limit is too low, `internal` where the node
 * has no memory now.
 */
export async function demandStartRoom(room = memoryRoom): Promise<void> {
  const found = await room();
  if (leastRoomBytes(found) >= START_BYTES) return;
  const mib = (bytes: number) => `${Math.floor(bytes / 2 ** 20)} MiB`;
  const need = `The agent needs ${mib(START_BYTES)} more memory to start`;
  if (found.cgroupRoomBytes !== undefined && found.cgroupRoomBytes <= found.availableBytes) {
    throw new ExhibitError(
      'config',
      `${need}, and the memory limit of its container leaves it ${mib(found.cgroupRoomBytes)}; raise resources.limits.memory in manifests/base/agent/daemonset.yaml`,
    );
  }
  throw new ExhibitError(
    'internal',
    `${need}, and this node has ${mib(found.availableBytes)} left; it is tried again, and starts when there is more`,
  );
}
