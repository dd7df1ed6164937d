/**
 * Containers that hold what CRIU stumbles over, one each, and near misses that it takes: what the preflight says of them, and
 * what CRIU 4.2 does, with and without the option that lifts it. The processes are programs/obstacles.c.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { asPid, type Pid } from '../../agent/runtime/runtime.ts';
import type { DumpOptions, Obstacle } from '../../evidence/dump.ts';
import { zooSource } from './cache.mjs';
import type { LabNode } from './node.ts';
import { compileC, pidsOf } from './planted.ts';
import type { LabPod } from './pod.ts';

export interface LabObstacle {
  /** What the program is told; no two are alike. */
  readonly name: string;
  /** What a preflight says; nothing of near misses. Several obstacles of one kind count once. */
  readonly predicted?: Pick<Obstacle, 'kind' | 'certainty' | 'liftedBy'>;
  /** What CRIU says without options; undefined where it makes the dump. */
  readonly refusal?: RegExp;
  /** Where the other end of a unix socket is. */
  readonly outside?: 'node' | 'pod';
  /** Somebody on the node puts a uprobe on the program. */
  readonly probed?: true;
  /** The program is put in beside an idle process 1, as `kubectl exec` does. */
  readonly beside?: true;
}

const TCP = { kind: 'tcp-established', certainty: 'certain', liftedBy: 'openTcp' } as const;
const LOCK = { kind: 'file-locks', certainty: 'certain', liftedBy: 'fileLocks' } as const;
const certain = (kind: Obstacle['kind']) => ({ kind, certainty: 'certain' }) as const;
const likely = (kind: Obstacle['kind']) => ({ kind, certainty: 'likely' }) as const;
const misses = (...names: string[]): LabObstacle[] => names.map((name) => ({ name }));
const held = (predicted: NonNullable<LabObstacle['predicted']>, refusal: RegExp, ...names: string[]): LabObstacle[] =>
  names.map((name) => ({ name, predicted, refusal }));

const HALF_STREAM = /External socket is used/;
const GHOST = /Can't dump ghost file .* increase limit/;
const nested = (name: string): LabObstacle[] =>
  held(certain('nested-namespace'), new RegExp(`Can't dump nested ${name}`), `nested-${name}`);

/** Every obstacle that can be made here, each beside its near misses. */
export const LAB_OBSTACLES: readonly LabObstacle[] = [
  ...misses('nothing'),

  ...held(TCP, /Connected TCP socket/, 'tcp-established', 'tcp-close-wait', 'tcp-fin-wait'),
  ...held(certain('tcp-backlog'), /In-flight connection/, 'tcp-backlog'),
  ...held(certain('mptcp'), /Unsupported proto 262/, 'mptcp-unbound', 'mptcp-listen', 'mptcp-established'),
  ...misses('tcp-unbound', 'tcp-listen', 'tcp-time-wait', 'tcp-reset', 'tcp-shutdown'),
  ...misses('udp-unconnected', 'udp-connected', 'ping', 'raw', 'packet', 'netlink'),
  ...held(certain('vsock'), /Unknown socket collected \(family 40\)/, 'vsock', 'vsock-listen'),
  { name: 'tcp-established beside', beside: true },

  { name: 'unix-outside-stream', outside: 'node', predicted: certain('unix-half-pair'), refusal: HALF_STREAM },
  { name: 'unix-outside-seqpacket', outside: 'node', predicted: certain('unix-half-pair'), refusal: HALF_STREAM },
  { name: 'unix-outside-idle', outside: 'node', predicted: certain('unix-half-pair'), refusal: /Dangling connection/ },
  { name: 'unix-outside-idle pod', outside: 'pod' },
  { name: 'unix-outside-dgram', outside: 'node', predicted: certain('unix-external'), refusal: /without peer/ },
  { name: 'unix-outside-stream pod', outside: 'pod', predicted: certain('unix-half-pair'), refusal: HALF_STREAM },
  {
    name: 'unix-outside-dgram pod',
    outside: 'pod',
    predicted: { ...certain('unix-external'), liftedBy: 'externalUnixSockets' },
    refusal: HALF_STREAM,
  },
  ...misses('unix-pair-stream', 'unix-pair-dgram', 'unix-pair-seqpacket'),
  ...misses('unix-half-pair-stream', 'unix-half-pair-dgram', 'unix-half-pair-seqpacket'),
  ...misses('unix-listen', 'unix-dgram-bound', 'unix-accepted', 'unix-backlog', 'unix-dgram-inside', 'unix-dgram-dead'),
  // CRIU finds the other end in the message; /proc does not tell whose it is.
  { name: 'unix-in-message', predicted: likely('unix-half-pair') },

  ...held(certain('io-uring'), /send_fds failed/, 'io-uring'),
  ...held(certain('io-uring'), /anon_inode:\[io_uring\]/, 'io-uring-mapped'),
  ...held(certain('unsupported-descriptor'), /Can't dump file \d+ of that type/, 'perf', 'userfault'),
  ...held(certain('unsupported-mapping'), /secretmem/, 'secret'),
  ...misses('pidfd', 'memfd'),

  ...held(
    certain('ghost-file'),
    GHOST,
    'ghost-over',
    'ghost-large',
    'ghost-mapped',
    'ghost-tmpfile',
    'ghost-shm',
    'ghost-program',
  ),
  ...held(likely('ghost-file'), /Can't create link remap/, 'ghost-link'),
  ...misses('ghost-small', 'ghost-limit', 'ghost-sparse', 'ghost-folder', 'ghost-program-small'),

  ...held(likely('inotify'), /Can't dump that handle/, 'inotify', 'inotify-proc'),
  ...held(certain('inotify'), /Can't dump that handle/, 'inotify-deleted'),
  ...held(certain('inotify'), /Can't find suitable path for handle/, 'inotify-mount-deleted'),
  // An overlay's handle, but CRIU searches /etc for it.
  { name: 'inotify-etc', predicted: likely('inotify') },
  ...misses('inotify-mount', 'inotify-shm', 'inotify-empty', 'fanotify'),

  ...held(LOCK, /Some file locks are hold/, 'lock-flock', 'lock-posix', 'lock-ofd', 'lock-lease'),
  { name: 'uprobes', probed: true, predicted: certain('uprobes'), refusal: /has uprobes vma/ },
  { name: 'uprobes-idle', probed: true },

  ...held(certain('traced'), /found while seizing/, 'traced'),
  ...['pid', 'user', 'uts', 'ipc', 'cgroup', 'time'].flatMap(nested),
  ...held(certain('nested-namespace'), /more than one netns/, 'nested-net'),
  ...misses('nested-mnt', 'zombie'),
  // 200 processes with ten descriptors each.
  ...misses('crowd'),
];

export interface HeldObstacle extends AsyncDisposable {
  readonly pod: LabPod;
  readonly containerId: string;
  /** Why the kernel did not give it, in its words; undefined when the container holds it. */
  readonly refused: string | undefined;
  /** The container's processes now, as the lab node's /proc shows them. */
  pids(): Pid[];
}

const CONTAINER = 'holder';
/** Where the program is on the node and in the container. */
const PROGRAM = '/run/obstacles';
const READY_TIMEOUT_MS = 20_000;
/** What some of the programs need beyond a container's usual rights: watches of mounts, raw sockets, memory that is locked. */
const CAPABILITIES = ['SYS_ADMIN', 'NET_RAW', 'SYS_PTRACE', 'IPC_LOCK'];

/** Puts the program on the node, once. Answers why it could not. */
export function installObstacles(node: LabNode): string | undefined {
  return compileC(zooSource('obstacles.c'), join(node.hostRoot, PROGRAM));
}

/** Starts a container that holds it, and waits until it does. Disposal ends the pod and who helped. */
export async function holdObstacle(node: LabNode, obstacle: LabObstacle): Promise<HeldObstacle> {
  const [kind = ''] = obstacle.name.split(' ');
  const name = obstacle.name.replaceAll(' ', '-');
  const folder = `/run/lab-${name}`;
  const helpers: string[] = [];
  const help = async (...argv: string[]): Promise<void> => {
    const { stdout } = await node.exec(['sh', '-c', `"$0" "$@" > /dev/null 2>&1 & echo $!`, ...argv]);
    helpers.push(stdout.toString().trim());
  };
  mkdirSync(join(node.hostRoot, folder), { recursive: true });
  const said = listener(join(node.hostRoot, folder, 'said'));
  if (obstacle.outside === 'node') await help(PROGRAM, 'serve', folder);
  const pod = await node.runPod(podOf(obstacle, kind, name, folder));
  const containerId = pod.containerId(CONTAINER);
  const initPid = await pod.pid(CONTAINER);
  if (obstacle.beside) {
    await help('ctr', '-n', 'k8s.io', 'tasks', 'exec', '--exec-id', name, containerId, '/bin/obstacles', kind, '/lab');
  }
  let words = await said();
  if (obstacle.probed) {
    await help(PROGRAM, 'probe', folder, PROGRAM, words.replace('offset ', ''));
    words = await said();
  }
  return {
    pod,
    containerId,
    refused: words === 'ready' ? undefined : words.replace('none ', ''),
    pids: () => [...pidsOf(node, initPid).values()].map(asPid),
    async [Symbol.asyncDispose]() {
      for (const pid of helpers) await node.exec(['kill', '-KILL', pid]);
      await pod.stop();
    },
  };
}

function podOf(obstacle: LabObstacle, kind: string, name: string, folder: string) {
  const mounts = [
    { hostPath: PROGRAM, containerPath: '/bin/obstacles', readonly: true },
    { hostPath: folder, containerPath: '/lab' },
  ];
  const run = (what: string) => ({ command: ['/bin/obstacles', what, '/lab'], mounts, capabilities: CAPABILITIES });
  const first = { name: 'server', ...run('serve') };
  // One that is put in beside another needs somebody who is there already, and says nothing.
  const idle = { name: CONTAINER, mounts, capabilities: CAPABILITIES };
  const holder = obstacle.beside ? idle : { name: CONTAINER, ...run(kind) };
  return { namespace: 'prod', name, containers: obstacle.outside === 'pod' ? [first, holder] : [holder] };
}

/** What the next program says in this file; the file is emptied then. */
function listener(file: string): () => Promise<string> {
  return async () => {
    const deadline = Date.now() + READY_TIMEOUT_MS;
    for (;;) {
      const text = readFileSync(file, { encoding: 'utf8', flag: 'a+' });
      if (text.endsWith('\n')) {
        writeFileSync(file, '');
        return text.trim();
      }
      if (Date.now() > deadline) throw new Error(`nobody was ready in ${READY_TIMEOUT_MS} ms: ${file}`);
      await sleep(10);
    }
  };
}

/** runc's names of the options. */
const FLAGS: Readonly<Record<keyof DumpOptions, string>> = {
  openTcp: '--tcp-established',
  fileLocks: '--file-locks',
  externalUnixSockets: '--ext-unix-sk',
};

/** A dump by CRIU, into the node's memory and gone again. `errors`: the lines that CRIU called errors. */
export async function dumpByCriu(node: LabNode, containerId: string, options: readonly (keyof DumpOptions)[]) {
  const [images, work] = ['/tmp/dump-images', '/tmp/dump-work'];
  await node.exec(['rm', '-rf', images, work]);
  await node.exec(['mkdir', images, work]);
  const { code } = await node.exec([
    ...['runc', '--root', '/run/containerd/runc/k8s.io', 'checkpoint', '--leave-running'],
    ...['--image-path', images, '--work-path', work, ...options.map((option) => FLAGS[option]), containerId],
  ]);
  const log = readFileSync(join(node.hostRoot, work, 'dump.log'), 'utf8');
  const errors = log.split('\n').filter((line) => /\bError \(/.test(line));
  await node.exec(['rm', '-rf', images, work]);
  return { made: code === 0, errors: errors.join('\n') };
}
