import type { ArtifactName } from '../../evidence/layout.ts';

/** What an artifact needs of its target to be worth trying. */
export type Need = 'process' | 'rootfs' | 'checkpoint';

export interface VolatilityRow {
  readonly artifact: ArtifactName;
  /** The row of RFC 3227 section 2.1 ("Order of Volatility") it belongs to: 2 routing, process table, memory; 3 temporary files; 4 disk; 5 logging, 6 configuration, 7 archival media. */
  readonly rfc3227: number;
  readonly needs: readonly Need[];
  readonly why: string;
}

/**
 * The order in which things are taken: what vanishes first comes first. Processes and sockets go before memory because
 * they are small, can be read live, and reading them costs the target nothing; the freeze begins only after them. The
 * checkpoint holds memory too, but stops the target for longer and may fail, so the certain copy goes first.
 */
export const VOLATILITY: readonly VolatilityRow[] = [
  { artifact: 'processes', rfc3227: 2, needs: ['process'], why: 'the process table: gone with the next exit' },
  {
    artifact: 'network',
    rfc3227: 2,
    needs: ['process'],
    why: 'sockets, routes and neighbours: gone with the connection',
  },
  {
    artifact: 'node',
    rfc3227: 2,
    needs: [],
    why: 'kernel statistics, modules, eBPF, packet filters: gone with the next change',
  },
  { artifact: 'memory', rfc3227: 2, needs: ['process'], why: 'process memory: gone with the process' },
  {
    artifact: 'checkpoint',
    rfc3227: 2,
    needs: ['process', 'checkpoint'],
    why: 'registers, timers and sockets as CRIU sees them: gone with the process',
  },
  {
    artifact: 'volumes',
    rfc3227: 3,
    needs: ['process'],
    why: 'what is mounted into the container, memory-backed mounts first: gone with the container or its pod',
  },
  { artifact: 'rootfs', rfc3227: 4, needs: ['rootfs'], why: 'the writable layer: removed with the container' },
  { artifact: 'logs', rfc3227: 5, needs: [], why: 'container logs: rotated, then removed with the pod' },
  {
    artifact: 'spec',
    rfc3227: 6,
    needs: [],
    why: 'configuration: known to the runtime until the container is removed',
  },
  {
    artifact: 'image',
    rfc3227: 7,
    needs: ['rootfs'],
    why: 'what the writable layer lies on: on the node while the image is in use, and in its registry',
  },
];
