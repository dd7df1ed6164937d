import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { PutBucketPolicyCommand } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { stringify } from 'yaml';
import type { Check } from '../../agent/doctor/check.ts';
import type { Manifest } from '../../evidence/manifest.ts';
import { type CliResult, type LabAgent, runCli, startAgent } from '../lab/agent.ts';
import { type LabNode, startNode } from '../lab/node.ts';
import { labObstacle, requireLab, requireS3 } from '../lab/requires.ts';
import { startS3 } from '../lab/s3.ts';

/** `exhibit doctor` on a real containerd: what it says when all is well, and whether it sees what is broken. */

let node: LabNode;
let agent: Awaited<ReturnType<typeof startAgent>>;
let folder: string;

beforeAll(async () => {
  if (labObstacle() !== undefined) return;
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-doctor-'));
  node = await startNode();
  await node.runPod({ namespace: 'prod', name: 'web-0', containers: [{ name: 'web' }] });
  agent = await startAgent(node);
});

afterAll(async () => {
  if (labObstacle() !== undefined) return;
  await agent[Symbol.asyncDispose]();
  await node[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

beforeEach((context) => requireLab(context));

interface Diagnosis {
  code: number;
  ok: boolean;
  check(name: string): Check;
  statuses: Record<string, string>;
}

function diagnosis({ code, stdout, stderr }: CliResult): Diagnosis {
  expect(stderr).toBe('');
  const { ok, checks } = JSON.parse(stdout) as { ok: boolean; checks: Check[] };
  expect(code).toBe(ok ? 0 : 1);
  expect(stdout).not.toMatch(/\bat .*\.ts:\d+/);
  return {
    code,
    ok,
    check: (name) => {
      const found = checks.find((one) => one.name === name);
      if (found === undefined) throw new Error(`no line ${name} in ${stdout}`);
      return found;
    },
    statuses: Object.fromEntries(checks.map(({ name, status }) => [name, status])),
  };
}

const ask = async (whom: LabAgent = agent) => diagnosis(await whom.exhibit('doctor', '--json'));

async function inside(...argv: string[]): Promise<string> {
  const { code, stdout, stderr } = await node.exec(argv);
  expect(code, stderr).toBe(0);
  return stdout.toString();
}

/** The agent's configuration for this node, for an examination from outside. */
function configFile(over: Record<string, unknown> = {}): string {
  const file = path.join(mkdtempSync(path.join(folder, 'config-')), 'agent.yaml');
  const runtime = { socket: node.socket, hostRoot: node.hostRoot, procRoot: node.procRoot };
  const sink = { url: `file://${path.dirname(file)}/evidence` };
  writeFileSync(file, stringify({ cluster: 'lab', runtime, sink, stateDir: '/run/exhibit', ...over }));
  return file;
}

describe('on a node where all is well', () => {
  test('a capture would work, and what is not ok is known', async () => {
    const { ok, statuses } = await ask();
    expect(ok).toBe(true);
    const kernel = [
      'soft-dirty',
      'page-scan',
      'proc-mem',
      'yama',
      'lockdown',
      'selinux',
      'clock',
      'memory',
      'checkpoint-memory',
    ];
    const ofThisMachine = Object.fromEntries(kernel.map((name) => [name, expect.stringMatching(/^(ok|warning)$/)]));
    expect(statuses).toEqual({
      runtime: 'ok',
      snapshotter: 'ok',
      checkpoint: 'ok',
      criu: 'ok',
      'criu-options': 'ok',
      'checkpoint-kernel': 'ok',
      'process-memory': 'ok',
      cgroup: 'ok',
      processes: 'ok',
      'cgroup-namespace': 'ok',
      'node-logs': 'ok',
      volumes: 'ok',
      'host-root': 'ok',
      capabilities: 'ok',
      'system-calls': 'ok',
      state: 'ok',
      settings: 'ok',
      policy: 'ok',
      sink: 'ok',
      'append-only': 'warning',
      spool: 'ok',
      signing: 'warning',
      timestamp: 'warning',
      ...ofThisMachine,
    });
  });

  test('it names what the node’s own programs say of themselves', async () => {
    const { check } = await ask();
    const criu = /Version: (\S+)/.exec(await inside('criu', '--version'))?.[1] ?? 'none';
    const containerd = (await inside('containerd', '--version')).split(' ')[2] ?? 'none';
    expect(check('criu').found).toContain(`/usr/sbin/criu ${criu}, found in the PATH of containerd (pid `);
    expect(check('runtime').found).toContain(`containerd ${containerd}, CRI v1, namespace k8s.io; 1 container`);
    expect(check('snapshotter').found).toBe('overlayfs (1 container)');
    expect(check('host-root').found).toContain('Debian');
    expect(check('state').found).toContain('tmpfs');
  });

  test('it is words for people, in groups', async () => {
    const { code, stdout } = await agent.exhibit('doctor');
    expect(code).toBe(0);
    expect(stdout.match(/^\w+$/gm)).toEqual(['runtime', 'checkpoint', 'kernel', 'agent', 'evidence']);
    expect(stdout).toMatch(/0 failures: a capture would work\n$/);
  });

  test('it is over soon and writes nothing where evidence goes', async () => {
    const begin = performance.now();
    await ask();
    expect(performance.now() - begin).toBeLessThan(10_000);
    expect(existsSync(agent.evidence)).toBe(false);
  });
});

describe('what is broken is seen', () => {
  test('no criu in the PATH of containerd is a warning, and nobody is asked for a checkpoint', async () => {
    await inside('mv', '/usr/sbin/criu', '/usr/sbin/criu.away');
    try {
      const { ok, check } = await ask();
      expect(ok).toBe(true);
      expect(check('criu')).toMatchObject({ status: 'warning', group: 'checkpoint' });
      expect(check('criu').found).toContain('/usr/local/sbin:/usr/local/bin:/usr/sbin');
      const { code } = await agent.exhibit('capture', 'prod/web-0', '--artifacts', 'checkpoint,spec');
      expect(code).toBe(0);
      const base = path.join(agent.evidence, 'lab', 'lab-node');
      const manifest: Manifest = JSON.parse(
        readFileSync(path.join(base, readdirSync(base)[0] ?? '', 'manifest.json'), 'utf8'),
      );
      const outcomes = Object.fromEntries(manifest.artifacts.map(({ name, status }) => [name, status]));
      expect(outcomes).toMatchObject({ checkpoint: 'skipped', spec: 'captured' });
      expect(manifest.artifacts.find(({ name }) => name === 'checkpoint')?.reason).toContain('no criu in the PATH');
    } finally {
      await inside('mv', '/usr/sbin/criu.away', '/usr/sbin/criu');
    }
    expect((await ask()).check('criu').status).toBe('ok');
  });

  test('criu behind an absolute link is found, below the root of the node', async () => {
    await inside('mv', '/usr/sbin/criu', '/opt/criu-4');
    await inside('ln', '-s', '/opt/criu-4', '/usr/local/bin/criu');
    try {
      expect((await ask()).check('criu').found).toMatch(/^\/usr\/local\/bin\/criu \d+\.\d+/);
    } finally {
      await inside('rm', '/usr/local/bin/criu');
      await inside('mv', '/opt/criu-4', '/usr/sbin/criu');
    }
  });

  test('options for CRIU on the node are shown', async () => {
    mkdirSync(path.join(node.hostRoot, 'etc/criu'));
    writeFileSync(path.join(node.hostRoot, 'etc/criu/runc.conf'), '# from the platform team\ntcp-established\n');
    try {
      expect((await ask()).check('criu-options')).toMatchObject({
        status: 'warning',
        found: '/etc/criu/runc.conf: tcp-established',
      });
    } finally {
      await inside('rm', '-r', '/etc/criu');
    }
  });

  test('a containerd that hangs is a failure, told in time', async () => {
    const pid = node.containerdPid;
    process.kill(pid, 'SIGSTOP');
    try {
      const begin = performance.now();
      const { ok, check } = await ask();
      expect(performance.now() - begin).toBeLessThan(30_000);
      expect(ok).toBe(false);
      expect(check('runtime')).toMatchObject({ status: 'failure' });
      expect(check('runtime').found).toContain('did not answer');
      expect(check('sink').status).toBe('ok');
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    expect((await ask()).ok).toBe(true);
  });

  test('a containerd that was stopped is a failure, and its criu is still looked for', async () => {
    await node.killContainerd();
    try {
      const { code, check } = await ask();
      expect(code).toBe(1);
      expect(check('runtime')).toMatchObject({ status: 'failure' });
      expect(check('runtime').found).toContain('nothing listens');
      expect(check('criu')).toMatchObject({ status: 'ok' });
      expect(check('criu').found).toContain('no containerd process was found');
    } finally {
      await node.startContainerd();
    }
    expect((await ask()).ok).toBe(true);
  });

  test('a sink that takes nothing is a failure, and the capture does fail', async () => {
    await using mute = await startAgent(node, { config: { sink: { url: 'file:///proc/exhibit' } } });
    const { ok, check } = await ask(mute);
    expect(ok).toBe(false);
    expect(check('sink')).toMatchObject({ status: 'failure', group: 'evidence' });
    expect((await mute.exhibit('capture', 'prod/web-0', '--artifacts', 'spec')).code).toBe(1);
  });
});

describe('without an agent', () => {
  const here = (file: string) => runCli(['doctor', '--config', file, '--json'], { EXHIBIT_SOCKET: '/nowhere.sock' });

  test('the node is examined from outside, and that this is outside is said', async () => {
    const { ok, check } = diagnosis(await here(configFile()));
    expect(ok).toBe(true);
    expect(check('runtime').status).toBe('ok');
    expect(check('processes')).toMatchObject({ status: 'warning' });
    expect(check('processes').found).toContain('in another pid namespace than the agent');
  });

  test('a state folder that the runtime does not see under its path is told', async () => {
    const runtime = { socket: node.socket, procRoot: node.procRoot };
    const { check } = diagnosis(await here(configFile({ runtime, stateDir: '/run' })));
    expect(check('state')).toMatchObject({ status: 'warning' });
    expect(check('state').meaning).toContain('FIFO');
  });

  test('an agent without the right to read memory would fail', async () => {
    const cli = path.resolve(import.meta.dirname, '../../cli/main.ts');
    const argv = ['--bounding-set=-sys_ptrace', process.execPath, cli, 'doctor', '--config', configFile(), '--json'];
    const refused: CliResult & { code: number } = await promisify(execFile)('setpriv', argv).then(
      ({ stdout, stderr }) => ({ code: 0, stdout, stderr }),
      (error) => error,
    );
    const { ok, check } = diagnosis(refused);
    expect(ok).toBe(false);
    expect(check('process-memory')).toMatchObject({ status: 'failure' });
    expect(check('capabilities').found).toContain('CAP_SYS_PTRACE');
  });
});

test('on cgroup v1 it says what a freeze costs', async (context) => {
  if (!existsSync('/sys/fs/cgroup/freezer')) context.skip('needs the freezer of cgroup v1 on this machine');
  await using old = await startNode({ cgroup: 'v1' });
  await using its = await startAgent(old);
  const { ok, check } = await ask(its);
  expect(ok).toBe(true);
  expect(check('cgroup').status).toBe('warning');
  expect(check('cgroup').meaning).toContain('cannot be killed');
  // Here containerd starts runc itself, and not by a script of the lab.
  const { stdout } = await old.exec(['runc', '--version']);
  expect(check('runtime').found).toContain(`runc ${stdout.toString().split(/\s/)[2]}`);
});

test('on S3 it finds out what the identity may do, from an identity that may and from one that may not', async (context) => {
  requireS3(context);
  await using s3 = await startS3();
  const env = { AWS_ACCESS_KEY_ID: s3.accessKeyId, AWS_SECRET_ACCESS_KEY: s3.secretAccessKey, AWS_REGION: s3.region };
  const sink = {
    url: `s3://${s3.bucket}/cases`,
    endpoint: s3.endpoint,
    region: s3.region,
    forcePathStyle: true,
    ifNoneMatch: false,
  };
  await using its = await startAgent(node, { config: { sink }, env });
  expect((await ask(its)).check('append-only')).toMatchObject({
    status: 'warning',
    found: 'list ALLOWED, read not known, delete not tried; the bucket keeps no versions',
  });
  expect((await its.exhibit('capture', 'prod/web-0', '--artifacts', 'spec')).code).toBe(0);
  expect((await ask(its)).check('append-only').found).toContain('list ALLOWED, read ALLOWED');

  const Action = ['s3:ListBucket', 's3:GetObject', 's3:DeleteObject', 's3:GetBucketObjectLockConfiguration'];
  const Resource = [`arn:aws:s3:::${s3.bucket}`, `arn:aws:s3:::${s3.bucket}/*`];
  const policy = { Version: '2012-10-17', Statement: [{ Effect: 'Deny', Principal: '*', Action, Resource }] };
  const client = s3.client();
  await client.send(new PutBucketPolicyCommand({ Bucket: s3.bucket, Policy: JSON.stringify(policy) }));
  client.destroy();
  const { ok, check } = await ask(its);
  expect(ok).toBe(true);
  expect(check('sink').status).toBe('ok');
  expect(check('append-only').found).toBe(
    'list refused, read refused, delete not tried; retention not told to this identity',
  );

  await s3.kill();
  const dead = await ask(its);
  expect(dead.ok).toBe(false);
  expect(dead.check('sink').status).toBe('failure');
  await s3.restart();
});
