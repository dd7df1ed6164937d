import type { Preflight } from '../../evidence/dump.ts';
import type { Pid } from '../runtime/runtime.ts';
import type { Host } from './host.ts';

export async function preflight(_host: Host, pids: readonly Pid[], _signal: AbortSignal): Promise<Preflight> {
  return { processes: pids.length, obstacles: [], obstacleCount: 0, dumpBytes: 0, notes: [], wallMs: 0 };
}
