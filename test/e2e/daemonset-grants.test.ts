import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type GrantId, granted } from '../../agent/doctor/grants.ts';
import { NEEDED_CAPABILITIES } from '../../agent/host/capabilities.ts';
import { lendKernelLogLock } from '../lab/lend.ts';
import { OVERLAYS } from '../lab/manifests.ts';
import { grantsOf, mountRightsOf, unusedVolumes, without } from '../lab/pod-grants.ts';
import { podOf, renderedAgent } from '../lab/rendered-pod.ts';
import { type RunningPod, startPod } from '../lab/running-pod.ts';
import {
  captureBy,
  type DaemonNode,
  doctorBy,
  gapsOf,
  linesBy,
  podObstacle,
  requirePods,
  startDaemonNode,
  TARGET,
} from './daemonset-node.ts';
import { freezeBig, LONG_FREEZE, niceOf, startBig } from './frozen-agent.ts';

/**
 * The agent's pod as `kubectl kustomize manifests/overlays/local` renders it with all of its grants, and then without each of them: what
 * is lost, and that the doctor says which line would give it back. A grant that nothing is lost without has no place in the manifest.
 * `local` because its sink is a folder of the node: nothing of what is rendered has to be another in the lab, and it grants what every
 * other overlay does, and that folder.
 */

const OVERLAY = 'overlays/local';
/** SECCOMP_MODE_FILTER, as proc(5) status has it. */
const SECCOMP_FILTER = '2';
let lab: DaemonNode;

beforeAll(async () => {
  if (podObstacle() === undefined) lab = await startDaemonNode();
}, 600_000);
afterAll(() => lab?.[Symbol.asyncDispose]());
beforeEach(requirePods);

const bereft = (grant: string) => lab.start({ pod: without(renderedAgent(OVERLAY), grant) });

/** What is lost of one artifact. */
async function gapsWithout(grant: GrantId, artifact: string): Promise<string> {
  await using agent = await bereft(grant);
  const [manifest, doctor] = await Promise.all([captureBy(agent, lab.node, TARGET, artifact), doctorBy(agent)]);
  const line = doctor('capabilities');
  expect(line.status).toBe('warning');
  expect(line.mend).toContain(granted(grant));
  return gapsOf(manifest).join('\n');
}

/** Of an agent that does not start. */
async function lastWords(grant: string): Promise<string> {
  await using agent = await startPod(lab.node, { pod: without(renderedAgent(OVERLAY), grant) });
  await expect(agent.started()).rejects.toThrow('ended at its start');
  return agent.log();
}

/** An agent that does not start says which mount it lacks. */
const namesMount = (grant: string, mount: GrantId) => async () =>
  expect(await lastWords(grant)).toContain(granted(mount));

/** Mounts that the node makes for a while, below each of the agent's mounts that follow it. */
const PASSING = {
  '/host': '/srv/held',
  '/run/containerd': '/run/containerd/held',
  '/run/exhibit': '/run/exhibit/held',
};
type Follower = keyof typeof PASSING;
const FOLLOWERS = Object.keys(PASSING) as Follower[];

/** Makes them, unless they are there. */
async function mountPassing(): Promise<void> {
  for (const at of Object.values(PASSING)) await must(['sh', '-c', `mkdir -p ${at} && mount -t tmpfs tmpfs ${at}`]);
}

/** Where the agent's pod sees them: not through `/host`, but for the first one. */
const seenBy = async (agent: RunningPod): Promise<Follower[]> => {
  const mounts = readFileSync(`/proc/${await agent.pid()}/mountinfo`, 'utf8').split('\n');
  const points = mounts.map((line) => line.split(' ')[4]);
  return FOLLOWERS.filter((at) => points.includes(at === '/host' ? `/host${PASSING[at]}` : PASSING[at]));
};

async function must(argv: readonly string[]): Promise<void> {
  const { code, stderr } = await lab.node.exec(argv);
  if (code !== 0) throw new Error(stderr);
}

/** What an agent still holds that follows with none of its mounts, each of which holds what is below it alone. */
let holding: Promise<Follower[]> | undefined;
function heldWithout(): Promise<Follower[]> {
  holding ??= (async () => {
    await mountPassing();
    const pod = FOLLOWERS.reduce((less, at) => without(less, `propagation:${at}`), renderedAgent(OVERLAY));
    await using agent = await lab.start({ pod });
    expect(await seenBy(agent)).toEqual(FOLLOWERS);
    await must(['umount', ...Object.values(PASSING)]);
    return await seenBy(agent);
  })();
  return holding;
}

const holds = (at: Follower) => async () => expect(await heldWithout()).toContain(at);

/** How those stand to the workload who work while a target stands still. */
async function niceInFreeze(agent: RunningPod) {
  const big = await startBig(lab.node);
  const pid = await agent.pid();
  const { ended } = await freezeBig(agent, big);
  const nice = niceOf(pid);
  expect(big.isFrozen()).toBe(true);
  expect(await ended).toBe(0);
  await big.pod.stop();
  return nice;
}

/** What `exhibit` says of a pod that no agent here has, and could not be asked of the API server, which the lab has not. */
const NOBODY_SAYS = 'Whether it runs on another node cannot be said';
const saidOfElsewhere = async (agent: RunningPod): Promise<string> =>
  (await agent.exec(['exhibit', 'capture', 'prod/elsewhere'])).stderr;

type Skip = (why: string) => never;
type Row = readonly [loss: string, look: (skip: Skip) => Promise<void>];

/** For each grant what is lost without it, as a sentence, and a look at that. */
const LOSSES: Record<GrantId, Row> = {
  hostPID: [
    'containers are paused by the runtime, registers are partial, plain processes are not stopped, and a guard dies with the container',
    async () => {
      await using agent = await bereft('hostPID');
      const manifest = await captureBy(agent, lab.node, TARGET, 'memory');
      expect(manifest.freeze.method).toBe('containerd');
      expect(manifest.artifacts[0]?.notes?.join()).toContain('run the agent with hostPID');
      expect((await captureBy(agent, lab.node, lab.plain, 'memory')).freeze.consistency).toBe('live');
      const line = await doctorBy(agent);
      for (const name of ['processes', 'cgroup-namespace']) {
        expect(line(name).status).toBe('warning');
        expect(line(name).mend).toContain(granted('hostPID'));
      }
    },
  ],
  runAsUser: [
    'the agent does not start, for a user who is not root has none of the capabilities',
    async () => expect(await lastWords('runAsUser')).toContain('EACCES'),
  ],
  automountServiceAccountToken: [
    'nobody is asked where a pod is that is not here',
    async () => {
      await using agent = await bereft('automountServiceAccountToken');
      expect(await saidOfElsewhere(agent)).not.toContain(NOBODY_SAYS);
    },
  ],
  'cap:SYS_PTRACE': [
    'there is no memory',
    async () => expect(await gapsWithout('cap:SYS_PTRACE', 'memory')).toMatch(/memory of pid N: EACCES/),
  ],
  'cap:SYS_ADMIN': [
    'eBPF programs are not listed, and a guard dies with the container',
    async () => {
      await using agent = await bereft('cap:SYS_ADMIN');
      const [manifest, line] = await Promise.all([captureBy(agent, lab.node, TARGET, 'node'), doctorBy(agent)]);
      expect(gapsOf(manifest).join()).toMatch(/bpf programs: EPERM: it takes CAP_SYS_ADMIN/);
      for (const name of ['capabilities', 'cgroup-namespace']) {
        expect(line(name).status).toBe('warning');
        expect(line(name).mend).toContain(granted('cap:SYS_ADMIN'));
      }
      expect(agent.log()).toContain('a guard would not outlive this container');
    },
  ],
  'cap:SYS_CHROOT': [
    'volumes are not read',
    async () => expect(await gapsWithout('cap:SYS_CHROOT', 'volumes')).toMatch(/\/data: EPERM: .*setns/),
  ],
  'cap:DAC_READ_SEARCH': [
    'files of other users in the writable layer are not read',
    async () => expect(await gapsWithout('cap:DAC_READ_SEARCH', 'rootfs')).toMatch(/tmp\/private: EACCES/),
  ],
  'cap:FOWNER': [
    'reading a file of another user changes its access time',
    async () => {
      await lab.touchPrivate();
      const before = lab.accessTimeNs();
      expect(await gapsWithout('cap:FOWNER', 'rootfs')).toBe('');
      expect(lab.accessTimeNs()).toBeGreaterThan(before);
    },
  ],
  'cap:NET_ADMIN': [
    'packet filters and followed connections are not read',
    async () => {
      const gaps = await gapsWithout('cap:NET_ADMIN', 'network');
      expect(gaps).toMatch(/netfilter\/(nftables|conntrack): EPERM: it takes CAP_NET_ADMIN/);
    },
  ],
  'cap:KILL': [
    'a plain process of another user is read while it runs, and the bundle says why',
    async () => {
      await using agent = await bereft('cap:KILL');
      const [manifest, line] = await Promise.all([captureBy(agent, lab.node, lab.plain, 'memory'), doctorBy(agent)]);
      expect(manifest.freeze).toMatchObject({ consistency: 'live', method: 'signal', pauseMs: 0 });
      expect(manifest.freeze.notes).toEqual([
        expect.stringMatching(/^The target did not freeze and runs on: pid \d+ cannot be stopped: kill EPERM$/),
      ]);
      expect(manifest.artifacts[0]?.notes?.join()).toContain('kill EPERM');
      expect(line('capabilities').mend).toContain(granted('cap:KILL'));
    },
  ],
  'cap:SYS_NICE': [
    'the guard does not come before the workload in a freeze, and the timer slack of processes is not read',
    async () => {
      await using agent = await lab.start({
        config: LONG_FREEZE,
        pod: without(renderedAgent(OVERLAY), 'cap:SYS_NICE'),
      });
      expect(await niceInFreeze(agent)).toEqual({ agent: 0, guards: [0] });
      expect(gapsOf(await captureBy(agent, lab.node, TARGET, 'processes')).join()).toMatch(/timerslack_ns: EPERM/);
      expect((await doctorBy(agent))('capabilities')).toMatchObject({
        status: 'warning',
        mend: expect.stringContaining(granted('cap:SYS_NICE')),
      });
    },
  ],
  'cap:SYSLOG': [
    'the log of the kernel is not read where kernel.dmesg_restrict is set',
    async (skip) => {
      using lent = lendKernelLogLock();
      if (lent === undefined) return skip('needs to set kernel.dmesg_restrict');
      expect(await gapsWithout('cap:SYSLOG', 'logs')).toMatch(/\/dev\/kmsg: EPERM/);
    },
  ],
  appArmorProfile: [
    'AppArmor refuses to mount and to trace',
    async (skip) => {
      if (!existsSync('/sys/kernel/security/apparmor')) return skip('needs AppArmor in the kernel');
      expect(await gapsWithout('appArmorProfile', 'volumes')).not.toBe('');
    },
  ],
  'mount:/host': ['the agent does not start', namesMount('mount:/host', 'mount:/host')],
  'mount:/run/exhibit': ['the agent does not start', namesMount('mount:/run/exhibit', 'mount:/run/exhibit')],
  'mount:/etc/exhibit': ['the agent does not start', namesMount('mount:/etc/exhibit', 'mount:/etc/exhibit')],
  'mount:/run/containerd': [
    'no container can be captured, and the agent is not ready',
    async () => {
      await using agent = await bereft('mount:/run/containerd');
      await expect(captureBy(agent, lab.node, TARGET, 'spec')).rejects.toThrow('no runtime socket');
      const line = (await doctorBy(agent))('runtime');
      expect(line.status).toBe('failure');
      expect(line.mend).toContain(granted('mount:/run/containerd'));
      const { status, text } = await agent.probe('readinessProbe');
      expect(status).toBe(503);
      expect(text).toContain(granted('mount:/run/containerd'));
    },
  ],
};

/** What the agent's own words do not name: who it is, its token, how mounts are made, and what one overlay has beside the base. */
const OTHER_LOSSES: Readonly<Record<string, Row>> = {
  'write:/run/exhibit': ['the agent does not start', namesMount('write:/run/exhibit', 'mount:/run/exhibit')],
  'propagation:/host': ['the agent holds a file system that the node let go of', holds('/host')],
  'propagation:/run/containerd': ['the agent holds the root of a container that has ended', holds('/run/containerd')],
  'propagation:/run/exhibit': ['the agent holds the memory of a checkpoint that is over', holds('/run/exhibit')],
  'mount:/var/lib/exhibit-evidence': ['the sink takes nothing', () => takesNothing('mount:/var/lib/exhibit-evidence')],
  'write:/var/lib/exhibit-evidence': ['the sink takes nothing', () => takesNothing('write:/var/lib/exhibit-evidence')],
};

async function takesNothing(grant: string): Promise<void> {
  await using agent = await bereft(grant);
  await expect(captureBy(agent, lab.node, TARGET, 'spec')).rejects.toThrow(/EROFS|read-only/);
  expect((await doctorBy(agent))('sink').status).toBe('failure');
}

/** Granted by an overlay alone, and not to be tried here. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  seLinuxOptions: 'overlays/bottlerocket: it takes a kernel with SELinux',
  'initContainer:criu': 'overlays/criu-host: it was tried by hand, docs/manifests.md',
};

test('every grant of every overlay has its row, and no row is for nothing', () => {
  const rows = [...Object.keys(LOSSES), ...Object.keys(OTHER_LOSSES)];
  const granted = (overlay: string) => {
    const { workload } = renderedAgent(overlay);
    expect(unusedVolumes(workload)).toEqual([]);
    return [...grantsOf(workload), ...mountRightsOf(workload)];
  };
  expect(granted(OVERLAY).sort()).toEqual(rows.toSorted());
  const others = OVERLAYS.filter((name) => name !== OVERLAY && !name.endsWith('-remove'));
  const more = others.flatMap(granted).filter((one) => !rows.includes(one));
  expect([...new Set(more)].sort()).toEqual(Object.keys(ELSEWHERE).sort());
});

/** All lines of the doctor; of those that are no `ok` with all grants, why. */
const LINES: Readonly<Record<string, 'ok' | { readonly warning: string } | { readonly maybe: string }>> = {
  ...{ runtime: 'ok', snapshotter: 'ok' },
  ...{ checkpoint: 'ok', criu: 'ok', 'criu-options': 'ok', 'checkpoint-memory': 'ok', 'checkpoint-kernel': 'ok' },
  ...{ 'page-scan': 'ok', 'process-memory': 'ok', 'proc-mem': 'ok', yama: 'ok', lockdown: 'ok', selinux: 'ok' },
  'soft-dirty': { maybe: 'kernels are built with it or without' },
  cgroup: 'ok',
  ...{ processes: 'ok', 'host-root': 'ok', 'cgroup-namespace': 'ok', capabilities: 'ok', 'system-calls': 'ok' },
  ...{ volumes: 'ok', 'node-logs': 'ok', state: 'ok', memory: 'ok', policy: 'ok' },
  settings: { warning: 'the overlay local says cluster: local, and is told what that means' },
  sink: 'ok',
  'append-only': { warning: 'the sink of the overlay is a folder of the node' },
  spool: 'ok',
  signing: { warning: 'the overlay names no key' },
  timestamp: { warning: 'the overlay names no authority' },
  clock: { maybe: 'whether anybody keeps the clock of the machine' },
};

describe('the pod of the agent with all that it is granted', () => {
  let agent: RunningPod;
  beforeAll(async () => {
    if (podObstacle() === undefined) agent = await lab.start();
  });
  afterAll(async () => void (await agent?.stop()));

  test('loses nothing of this', async () => {
    await lab.touchPrivate();
    const before = lab.accessTimeNs();
    using _locked = lendKernelLogLock();
    const manifest = await captureBy(agent, lab.node, TARGET);
    expect(gapsOf(manifest)).toEqual([]);
    expect(manifest.artifacts.map(({ name, status }) => `${name} ${status}`)).toEqual(
      ['processes', 'network', 'node', 'memory', 'checkpoint', 'volumes', 'rootfs', 'logs', 'spec'].map(
        (name) => `${name} captured`,
      ),
    );
    expect(manifest.freeze.method).toBe('cgroup-v2');
    expect(lab.accessTimeNs()).toBe(before);
    const plain = await captureBy(agent, lab.node, lab.plain, 'memory', 'processes');
    expect(gapsOf(plain)).toEqual([]);
    expect(plain.freeze).toMatchObject({ consistency: 'frozen', method: 'signal' });
    expect(await saidOfElsewhere(agent)).toContain(NOBODY_SAYS);
  });

  test('is ready and well, as kubelet asks', async () => {
    for (const which of ['startupProbe', 'livenessProbe', 'readinessProbe'] as const)
      expect([which, (await agent.probe(which)).status]).toEqual([which, 200]);
  });

  test('has every line of the doctor well, but for those of which the reason is named', async () => {
    const lines = await linesBy(agent);
    const told = Object.fromEntries(lines.map(({ name, status }) => [name, status]));
    const wanted = Object.entries(LINES).map(([name, how]) => {
      const status = how === 'ok' ? 'ok' : 'warning' in how ? 'warning' : expect.stringMatching(/^(ok|warning)$/);
      return [name, status];
    });
    expect(told).toEqual(Object.fromEntries(wanted));
    // The profile of the runtime is in force, and refuses nothing of it.
    expect(lines.find(({ name }) => name === 'system-calls')?.found).toContain('a seccomp filter is in force');
  });

  test('holds no mount that the node lets go of', async () => {
    await mountPassing();
    expect(await seenBy(agent)).toEqual(FOLLOWERS);
    await must(['umount', ...Object.values(PASSING)]);
    expect(await seenBy(agent)).toEqual([]);
  });

  test('has no capability, system call or place to write that is not granted', async () => {
    const pid = await agent.pid();
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    const fieldOf = (name: string) => new RegExp(`^${name}:\\t(\\S+)$`, 'm').exec(status)?.[1];
    const granted = NEEDED_CAPABILITIES.reduce((mask, { bit }) => mask | (1n << BigInt(bit)), 0n);
    for (const set of ['CapPrm', 'CapEff', 'CapBnd']) expect(BigInt(`0x${fieldOf(set)}`)).toBe(granted);
    expect([fieldOf('CapInh'), fieldOf('CapAmb')]).toEqual(['0'.repeat(16), '0'.repeat(16)]);
    expect(fieldOf('Seccomp')).toBe(SECCOMP_FILTER);
    const rights = mountRightsOf(renderedAgent(OVERLAY).workload);
    const [{ volumeMounts }] = podOf(renderedAgent(OVERLAY).workload).containers;
    for (const at of ['/', ...volumeMounts.map(({ mountPath }) => mountPath)]) {
      const file = join(`/proc/${pid}/root`, at, 'written');
      const write = () => writeFileSync(file, '');
      if (rights.includes(`write:${at}`)) {
        write();
        rmSync(file);
      } else expect(write, at).toThrow('EROFS');
    }
  });
});

describe('the pod of the agent', () => {
  for (const [grant, [loss, look]] of [...Object.entries(LOSSES), ...Object.entries(OTHER_LOSSES)]) {
    const name = grant.replace('cap:', 'CAP_').replace('mount:', 'the mount of ');
    test(`without ${name} ${loss}`, (context) => look((why) => context.skip(why)));
  }
});
