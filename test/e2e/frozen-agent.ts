/** The agent's pod in the middle of a freeze that lasts: what its processes are then, and what becomes of the target. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { LabNode } from '../lab/node.ts';
import type { LabPod } from '../lab/pod.ts';
import type { RunningPod } from '../lab/running-pod.ts';

/** 300 MB of what nobody can compress, through a buffer of 16: for a second at the least nothing else ends the freeze. */
const PROGRAM = '$x = join("", map { chr(rand 256) } 1..1000) x 300_000; sleep 1 while 1';
export const LONG_FREEZE = { memory: { bufferBytes: '16MiB', whenLarger: 'stream-frozen' } } as const;
const BIG = 'prod/big-0';
const FROZEN_MS = 30_000;

export interface BigTarget {
  readonly selector: typeof BIG;
  readonly pod: LabPod;
  isFrozen(): boolean;
}

export async function startBig(node: LabNode): Promise<BigTarget> {
  const command = ['perl', '-e', PROGRAM];
  const pod = await node.runPod({ namespace: 'prod', name: 'big-0', containers: [{ name: 'big', command }] });
  const cgroups = join(node.hostRoot, 'sys/fs/cgroup', node.cgroupParent);
  const folder = join(cgroups, `kubepods/besteffort/pod${pod.uid}/${pod.containerId('big')}`);
  return {
    ...{ selector: BIG, pod },
    isFrozen: () => readFileSync(join(folder, 'cgroup.freeze'), 'latin1') === '1\n',
  };
}

/** Captures the target's memory, and resolves when it stands still; `ended` when the command has. */
export async function freezeBig(agent: RunningPod, big: BigTarget): Promise<{ ended: Promise<number | undefined> }> {
  const capture = agent.exec(['exhibit', 'capture', big.selector, '--artifacts', 'memory']);
  const ended = capture.then(
    ({ code }) => code,
    () => undefined,
  );
  const until = Date.now() + FROZEN_MS;
  while (!big.isFrozen()) {
    if (Date.now() > until) throw new Error(`the target was not stopped: ${agent.log()}`);
    await sleep(1);
  }
  return { ended };
}

/** Nice values of the agent's thread that copies and of the guards, on this machine's /proc. */
export function niceOf(pid: number): { agent: number; guards: number[] } {
  return {
    agent: niceFrom(`/proc/${pid}/stat`),
    guards: childrenOf(pid)
      .filter((child) => readFileSync(`/proc/${child}/cmdline`, 'latin1').includes('/guard.ts'))
      .map((child) => niceFrom(`/proc/${child}/stat`)),
  };
}

/** Field 19 of proc(5) stat; the second one may have anything in it but ends in the last bracket. */
const niceFrom = (file: string): number => {
  const text = readFileSync(file, 'latin1');
  return Number(text.slice(text.lastIndexOf(')') + 2).split(' ')[16]);
};

function childrenOf(pid: number): number[] {
  return readdirSync(`/proc/${pid}/task`).flatMap((tid) =>
    readFileSync(`/proc/${pid}/task/${tid}/children`, 'latin1').split(' ').filter(Boolean).map(Number),
  );
}
