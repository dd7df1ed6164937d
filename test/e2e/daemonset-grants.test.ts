import { existsSync, readFileSync } from 'node:fs';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type GrantId, granted } from '../../agent/doctor/grants.ts';
import { MANIFEST, parseDaemonSet, runDaemonSet, without } from '../lab/daemonset.ts';
import { EXHIBIT_IMAGE, imageObstacle, requireExhibitImage } from '../lab/exhibit-image.ts';
import { lendKernelLogLock } from '../lab/lend.ts';
import { labObstacle, requireLab } from '../lab/requires.ts';
import { captureBy, type DaemonNode, doctorBy, gapsOf, startDaemonNode, TARGET } from './daemonset-node.ts';

/**
 * The pod of manifests/base/agent/daemonset.yaml with all of its grants, and then without each of them: what is lost, and that the
 * doctor says which line would give it back. A grant that nothing is lost without has no place in the manifest.
 */

const whole = parseDaemonSet(readFileSync(MANIFEST, 'utf8'));
let lab: DaemonNode;

beforeAll(async () => {
  if (labObstacle() === undefined && imageObstacle() === undefined) lab = await startDaemonNode();
}, 600_000);
afterAll(() => lab?.[Symbol.asyncDispose]());
beforeEach((context) => {
  requireLab(context);
  requireExhibitImage(context);
});

const bereft = (grant: GrantId) => lab.start({ daemonSet: without(whole, grant) });

/** What is lost of one artifact. */
async function gapsWithout(grant: GrantId, artifact: string): Promise<string> {
  await using agent = await bereft(grant);
  const gaps = gapsOf(await captureBy(agent, lab.node, TARGET, artifact)).join('\n');
  const line = (await doctorBy(agent))('capabilities');
  expect(line.status).toBe('warning');
  expect(line.mend).toContain(granted(grant));
  return gaps;
}

/** An agent that does not start says which mount it lacks. */
async function lastWords(grant: GrantId): Promise<void> {
  const options = { image: EXHIBIT_IMAGE, config: { sink: { url: 'file:///run/exhibit/evidence' } } };
  await using agent = await runDaemonSet(lab.node, { ...options, daemonSet: without(whole, grant) });
  await expect(agent.ready()).rejects.toThrow('ended at its start');
  expect(agent.log()).toContain(granted(grant));
}

type Skip = (why: string) => never;

/** For each grant what is lost without it, as a sentence, and a look at that. */
const LOSSES: Record<GrantId, readonly [loss: string, look: (skip: Skip) => Promise<void>]> = {
  hostPID: [
    'containers are paused by the runtime, registers are partial, and plain processes are not stopped',
    async () => {
      await using agent = await bereft('hostPID');
      const manifest = await captureBy(agent, lab.node, TARGET, 'memory');
      expect(manifest.freeze.method).toBe('containerd');
      expect(manifest.artifacts[0]?.notes?.join()).toContain('run the agent with hostPID');
      expect((await captureBy(agent, lab.node, lab.plain, 'memory')).freeze.consistency).toBe('live');
      const line = (await doctorBy(agent))('processes');
      expect(line.status).toBe('warning');
      expect(line.mend).toContain(granted('hostPID'));
    },
  ],
  'cap:SYS_PTRACE': [
    'there is no memory',
    async () => expect(await gapsWithout('cap:SYS_PTRACE', 'memory')).toMatch(/memory of pid N: EACCES/),
  ],
  'cap:SYS_ADMIN': [
    'eBPF programs are not listed',
    async () =>
      expect(await gapsWithout('cap:SYS_ADMIN', 'node')).toMatch(/bpf programs: EPERM: it takes CAP_SYS_ADMIN/),
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
    'a plain process of another user is read while it runs',
    async () => {
      await using agent = await bereft('cap:KILL');
      const manifest = await captureBy(agent, lab.node, lab.plain, 'memory');
      expect(manifest.freeze.consistency).toBe('live');
      expect(manifest.artifacts[0]?.notes?.join()).toContain('kill EPERM');
      expect((await doctorBy(agent))('capabilities').mend).toContain(granted('cap:KILL'));
    },
  ],
  'cap:SYS_NICE': [
    'the timer slack of processes is not read, and nothing comes before the workload',
    async () => expect(await gapsWithout('cap:SYS_NICE', 'processes')).toMatch(/timerslack_ns: EPERM/),
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
  'mount:/host': ['the agent does not start', () => lastWords('mount:/host')],
  'mount:/run/exhibit': ['the agent does not start', () => lastWords('mount:/run/exhibit')],
  'mount:/etc/exhibit': ['the agent does not start', () => lastWords('mount:/etc/exhibit')],
  'mount:/run/containerd': [
    'no container can be captured',
    async () => {
      await using agent = await bereft('mount:/run/containerd');
      await expect(captureBy(agent, lab.node, TARGET, 'spec')).rejects.toThrow('no runtime socket');
      const line = (await doctorBy(agent))('runtime');
      expect(line.status).toBe('failure');
      expect(line.mend).toContain(granted('mount:/run/containerd'));
    },
  ],
};

test('with all that the DaemonSet grants nothing of this is lost', async () => {
  await lab.touchPrivate();
  const before = lab.accessTimeNs();
  using _locked = lendKernelLogLock();
  await using agent = await lab.start();
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
  const line = await doctorBy(agent);
  for (const name of ['runtime', 'cgroup', 'processes', 'host-root', 'capabilities', 'volumes', 'node-logs', 'state']) {
    expect(line(name)).toMatchObject({ name, status: 'ok' });
  }
  // The profile of the runtime is in force, and refuses nothing of it.
  expect(line('system-calls')).toMatchObject({
    status: 'ok',
    found: expect.stringContaining('a seccomp filter is in force'),
  });
});

describe('the pod of the agent', () => {
  for (const [grant, [loss, look]] of Object.entries(LOSSES)) {
    const name = grant.replace('cap:', 'CAP_').replace('mount:', 'the mount of ');
    test(`without ${name} ${loss}`, (context) => look((why) => context.skip(why)));
  }
});
