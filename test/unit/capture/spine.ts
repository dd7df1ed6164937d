import type { Freezer } from '../../../agent/capture/freeze.ts';
import type { CollectContext } from '../../../agent/collect/collector.ts';
import type { Runtime, Target } from '../../../agent/runtime/runtime.ts';
import { asHostPath } from '../../../agent/runtime/runtime.ts';

/** Fakes of the ports of the spine: a container, its runtime, a freezer, collectors of one file. */

export const target: Target = {
  record: {
    runtime: 'cri',
    kind: 'container',
    id: 'abcdef0123456789',
    name: 'web',
    pod: { namespace: 'prod', name: 'web-0', uid: 'u', sandboxId: 's' },
    labels: {},
    initPid: 7,
    pids: [7],
  },
  freeze: { kind: 'containerd', socket: '/s', namespace: 'k8s.io', containerId: 'abcdef0123456789' },
  rootfs: { kind: 'overlay', upper: asHostPath('/u'), lowers: [], userXattr: false },
  mounts: [],
  logPath: undefined,
  documents: [],
  notes: ['its image is not known any more'],
  companions: [],
};

export const runtime: Runtime = {
  kind: 'cri',
  identify: async () => ({ name: 'containerd', version: '2.1.9' }),
  list: async () => [],
  resolve: async () => target,
  pids: async () => [],
  pauseOf: () => undefined,
  rungs: [
    {
      name: 'cri',
      delivers: 'archive',
      checkpoint: () => Promise.reject(new Error('not used')),
      clean: async () => [],
    },
  ],
  resumeIfPaused: async () => false,
  [Symbol.asyncDispose]: async () => undefined,
};

export type Collect = (context: CollectContext) => Promise<void>;

export const oneFile =
  (name: string): Collect =>
  async (context) => {
    await using archive = await context.archive(`${name}.tar.zst`);
    await archive.add({ path: `${name}.txt`, type: 'file', sizeBytes: 5 }, Buffer.from('hello'));
    await archive.commit();
  };

export interface Freezes {
  readonly log: string[];
}

export function fakeFreezer({ log }: Freezes): () => Promise<Freezer> {
  return async () => ({
    freeze: async () => {
      log.push('frozen');
      const record = {
        consistency: 'frozen',
        method: 'containerd',
        pauseMs: 12,
        thawedBy: 'agent',
        notes: [],
      } as const;
      const thaw = async () => {
        if (log.at(-1) !== 'thawed') log.push('thawed');
        return { ...record, notes: [] };
      };
      return {
        deadline: Number.POSITIVE_INFINITY,
        expired: false,
        registers: Promise.resolve({ threads: new Map() }),
        thaw,
        [Symbol.asyncDispose]: async () => void (await thaw()),
      };
    },
    [Symbol.asyncDispose]: async () => void log.push('guard ended'),
  });
}
