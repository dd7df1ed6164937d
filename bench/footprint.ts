/**
 * `npm run bench -- footprint`: the agent's peak resident memory while it captures containers of growing size, each with as
 * much incompressible data in its writable layer, and a memory buffer that stays the same.
 */
import { readFileSync } from 'node:fs';
import { startAgent } from '../test/lab/agent.ts';
import { startNode } from '../test/lab/node.ts';
import { startLoad } from './load.ts';

const SIZES_MIB = [64, 512, 1536];
const BUFFER_MIB = 128;
const ARTIFACTS = 'processes,network,memory,rootfs,logs,spec';

/** VmHWM of proc(5), in MiB. */
const peakMib = (pid: number): number =>
  Math.round(Number(/^VmHWM:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? 0) / 1024);

export async function footprint(): Promise<void> {
  await using node = await startNode({ disk: true });
  process.stdout.write(`container MiB   agent at start   peak, with a buffer of ${BUFFER_MIB} MiB\n`);
  for (const sizeMib of SIZES_MIB) {
    const probe = await startLoad(node, `probe-${sizeMib}`, sizeMib, 1);
    const filled = await probe.pod.exec('load', ['dd', 'if=/dev/urandom', 'of=/big', 'bs=1048576', `count=${sizeMib}`]);
    if (filled.code !== 0) throw new Error(`the layer could not be filled: ${filled.stderr}`);
    await using agent = await startAgent(node, { config: { memory: { bufferBytes: `${BUFFER_MIB}MiB` } } });
    const before = peakMib(agent.pid);
    const { code, stderr } = await agent.exhibit('capture', probe.containerId, '--artifacts', ARTIFACTS);
    if (code !== 0) throw new Error(`exhibit capture: ${stderr}`);
    const row = [String(sizeMib).padStart(13), String(before).padStart(17), String(peakMib(agent.pid)).padStart(18)];
    process.stdout.write(`${row.join('')}\n`);
    await probe.pod.stop();
  }
}
