/**
 * `node bench/age-pause.ts [--size MIB] [--rounds N]`: whether a container stands still for longer when its memory is encrypted to
 * two recipients on its way to the sink. Two agents on one node take the memory of one container in turn, with a buffer that holds
 * all of it; what is reported is the gap that the container itself saw, and the time and CPU of storing after it ran again.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { openBundle } from '../evidence/bundle.ts';
import { readAtMost } from '../evidence/byte-sink.ts';
import { MANIFEST_OBJECT } from '../evidence/layout.ts';
import type { Manifest } from '../evidence/manifest.ts';
import { type LabAgent, startAgent } from '../test/lab/agent.ts';
import { startNode } from '../test/lab/node.ts';
import { type Load, startLoad } from './load.ts';
import { median } from './median.ts';

/** The gap is logged only after the container runs again, and the log reader is containerd. */
const SETTLE_MS = 300;
const MIB = 2 ** 20;
const MAX_MANIFEST_BYTES = 64 * MIB;
/** proc(5): CPU times are counted in hundredths of a second. */
const TICK_MS = 10;

const { values } = parseArgs({
  options: { size: { type: 'string', default: '256' }, rounds: { type: 'string', default: '5' } },
});
const [sizeMib, rounds] = [Number(values.size), Number(values.rounds)];

interface Figures {
  readonly stallMs: number;
  readonly pauseMs: number;
  readonly storeMs: number;
  readonly cpuMs: number;
}

/** utime and stime of all threads. */
function cpuMsOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'latin1')
    .replace(/^.*\) /s, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
}

async function capture(agent: LabAgent & { evidence: string }, load: Load, identity: string): Promise<Figures> {
  await sleep(SETTLE_MS);
  const since = Date.now();
  const cpuBefore = cpuMsOf(agent.pid);
  const { code, stderr } = await agent.exhibit('capture', load.containerId, '--artifacts', 'memory');
  if (code !== 0) throw new Error(`exhibit capture: ${stderr}`);
  const cpuMs = cpuMsOf(agent.pid) - cpuBefore;
  await sleep(SETTLE_MS);
  const [id = ''] = readdirSync(path.join(agent.evidence, 'lab', 'lab-node'));
  await using reader = await openBundle(path.join(agent.evidence, 'lab', 'lab-node', id), { identities: [identity] });
  const bytes = await readAtMost(reader.read(MANIFEST_OBJECT), MAX_MANIFEST_BYTES);
  const { artifacts } = JSON.parse(Buffer.from(bytes ?? []).toString()) as Manifest;
  const memory = artifacts.find(({ name }) => name === 'memory');
  rmSync(agent.evidence, { recursive: true });
  return {
    stallMs: load.longestSince(since),
    pauseMs: memory?.footprint.pauseMs ?? Number.NaN,
    storeMs: Number(memory?.facts.storeMs),
    cpuMs,
  };
}

const identity = await generateX25519Identity();
const recipients = await Promise.all([identity, await generateX25519Identity()].map((one) => identityToRecipient(one)));
const shm = mkdtempSync('/dev/shm/exhibit-bench-');
try {
  await using node = await startNode({ disk: true });
  const load = await startLoad(node, 'load', sizeMib, 1);
  const memory = { bufferBytes: `${sizeMib * 2 + 128}MiB` };
  await using plain = await startAgent(node, { config: { memory }, folder: path.join(shm, 'plain') });
  const config = { memory, encryption: { recipients } };
  await using encrypted = await startAgent(node, { config, folder: path.join(shm, 'encrypted') });
  const ways = [
    { name: 'in plain', agent: plain, all: [] as Figures[] },
    { name: 'to two recipients', agent: encrypted, all: [] as Figures[] },
  ];
  // The first of each pays for what a process loads once.
  for (let round = 0; round <= rounds; round += 1) {
    for (const { agent, all } of round % 2 === 0 ? ways : ways.toReversed()) {
      const figures = await capture(agent, load, identity);
      if (round > 0) all.push(figures);
    }
  }
  process.stdout.write(`${sizeMib} MiB, ${rounds} rounds in turn, medians (least to most)\n`);
  for (const { name, all } of ways) {
    const cells = (['stallMs', 'pauseMs', 'storeMs', 'cpuMs'] as const).map((key) => {
      const column = all.map((one) => one[key]);
      return `${key} ${median(column).toFixed(0)} (${Math.min(...column).toFixed(0)}-${Math.max(...column).toFixed(0)})`;
    });
    process.stdout.write(`${name.padEnd(20)}${cells.join('  ')}\n`);
  }
} finally {
  rmSync(shm, { recursive: true, force: true });
}
