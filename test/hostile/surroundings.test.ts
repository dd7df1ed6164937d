import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { runCli } from '../lab/agent.ts';
import { memoryCgroup } from '../lab/memory-cgroup.ts';
import {
  inside,
  type Started,
  startSurrounded,
  surroundedConfig,
  surroundedObstacle,
} from '../lab/surrounded-agent.ts';

/** The agent's own process on nodes where something is missing: it starts and says so, or ends in one sentence; it never comes and goes. */

const obstacle = surroundedObstacle();

let folder: string;
beforeAll(() => {
  folder = mkdtempSync('/dev/shm/exhibit-surroundings-');
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));
beforeEach((context) => {
  if (obstacle !== undefined) context.skip(obstacle);
});

const configFile = (config: Record<string, unknown>): string => surroundedConfig(folder, config);
const start = (file: string, prelude = 'true'): Started => startSurrounded(file, prelude);

describe('a node without its runtime', () => {
  test('has an agent that starts, waits, and says what is missing', async () => {
    await using agent = start(configFile({ runtime: { socket: `${folder}/none/containerd.sock` } }));
    const log = await agent.said(/a capture would not work/);
    expect(log).toContain('API ready');
    expect(log).toContain(`runtime: there is no runtime socket at ${folder}/none/containerd.sock`);
    expect(log).toContain('the agent waits for it');
    expect(log).toContain('manifests/base/agent/daemonset.yaml');
    expect(log).not.toMatch(/UNAVAILABLE[^\n]*a capture would not work/);
  });

  test('that has Docker is told of overlays/docker', async () => {
    const hostRoot = path.join(folder, 'docker-node');
    mkdirSync(`${hostRoot}/run/exhibit`, { recursive: true });
    mkdirSync(`${hostRoot}/var`);
    const docker = createServer().listen(`${hostRoot}/run/docker.sock`);
    await once(docker, 'listening');
    try {
      const socket = `${folder}/none/containerd.sock`;
      await using agent = start(configFile({ runtime: { socket, hostRoot }, stateDir: '/run/exhibit' }));
      const log = await agent.said(/a capture would not work/);
      expect(log).toContain(
        'the node has Docker (/run/docker.sock): set runtime.kind: docker, as manifests/overlays/docker',
      );
    } finally {
      docker.close();
    }
  });
});

const READ_ONLY = 'mount -o remount,bind,ro /';

describe('a node or container with a read-only root', () => {
  test('is one where a capture works: what the agent writes is in memory', async () => {
    const file = configFile({});
    await using agent = start(file, READ_ONLY);
    await agent.said(/a capture would work/);
    expect(() => inside(agent, 'test -w /')).toThrow();
    const victim = spawn('sleep', ['300'], { stdio: 'ignore' });
    try {
      const EXHIBIT_SOCKET = path.join(path.dirname(file), 'api.sock');
      const argv = ['capture', `pid:${victim.pid}`, '--artifacts', 'processes'];
      const { code, stderr } = await runCli(argv, { EXHIBIT_SOCKET });
      expect(code, stderr).toBe(0);
    } finally {
      victim.kill();
    }
  });

  test('ends an agent whose stateDir is on it in one sentence, with exit code 2', async () => {
    await using agent = start(configFile({ stateDir: '/exhibit-state-of-a-test/x' }), READ_ONLY);
    expect(await agent.ended()).toBe(2);
    expect(agent.log()).toContain('Cannot make stateDir /exhibit-state-of-a-test/x; set it to a folder on a tmpfs');
    expect(agent.log().trimEnd().split('\n')).toHaveLength(1);
  });
});

describe('a state folder', () => {
  test('that becomes read-only or full ends readiness, and one that is well again brings it back', async () => {
    const state = path.join(folder, 'own-state');
    mkdirSync(state);
    await using agent = start(configFile({ stateDir: state }), `mount -t tmpfs -o size=8m none ${state}`);
    await agent.said(/a capture would work/);
    inside(agent, `head -c 16m /dev/zero > ${state}/filler 2>&1 || true`);
    await agent.said(/state: [^"]*own-state is full; no capture can be noted/);
    inside(agent, `rm ${state}/filler`);
    await agent.said(/a capture would not work[\s\S]*a capture would work/);
    // Over it: what the agent has open there keeps the file system itself from being made read-only.
    inside(agent, `mount --bind ${state} ${state}; mount -o remount,bind,ro ${state}`);
    await agent.said(
      /own-state is read-only[^"]*the mount of \/run\/exhibit is granted by manifests\/base\/agent\/daemonset.yaml:\d+/,
    );
  });

  test('on a disk is a warning, and no file is left on it by looking', async () => {
    const file = configFile({ stateDir: '/var/tmp/exhibit-none/state', spool: { path: `${folder}/spool` } });
    const { stdout } = await runCli(['doctor', '--config', file, '--json']);
    const state = JSON.parse(stdout).checks.find(({ name }: { name: string }) => name === 'state');
    expect(state).toMatchObject({ found: '/var/tmp/exhibit-none/state is on a disk', status: 'warning' });
    expect(existsSync('/var/tmp/exhibit-none')).toBe(false);
  });
});

describe('little memory', () => {
  const MIB = 2 ** 20;

  test('ends an agent that could not start in one sentence, before the kernel would', async (context) => {
    await using cgroup = memoryCgroup(64 * MIB) ?? context.skip('needs a memory controller that may be used');
    await using agent = await cgroup.within(async () => start(configFile({})));
    expect(await agent.ended()).toBe(2);
    expect(agent.log()).toMatch(
      /needs 48 MiB more memory to start, and the memory limit of its container leaves it \d+ MiB/,
    );
    expect(agent.log()).toContain('raise resources.limits.memory in manifests/base/agent/daemonset.yaml');
    expect(cgroup.kills()).toBe(0);
  });

  test('lets an agent start, wait, and say so, where captures would not fit', async (context) => {
    await using cgroup = memoryCgroup(128 * MIB) ?? context.skip('needs a memory controller that may be used');
    await using agent = await cgroup.within(async () => start(configFile({ spool: { bytes: '1MiB' } })));
    const log = await agent.said(/not rehearsed for want of memory/);
    expect(log).toMatch(/memory: [^"]* left below the agent's own limit; a capture needs 128 MiB more/);
    expect(log).toContain("raise the memory limit of the agent's container");
    expect(cgroup.kills()).toBe(0);
  });
});

describe('a capture that would not fit below the limit', () => {
  const MIB = 2 ** 20;

  test('is refused in words, and the agent that was asked lives on', async (context) => {
    await using cgroup = memoryCgroup(96 * MIB) ?? context.skip('needs a memory controller that may be used');
    const file = configFile({ spool: { bytes: '1MiB' } });
    await using agent = await cgroup.within(async () => start(file));
    await agent.said(/not rehearsed for want of memory/);
    const env = { EXHIBIT_SOCKET: path.join(path.dirname(file), 'api.sock') };
    const target = spawn('sleep', ['1000'], { stdio: 'ignore' });
    await using stack = new AsyncDisposableStack();
    stack.defer(() => void target.kill('SIGKILL'));
    for (let asked = 0; asked < 2; asked += 1) {
      const { stderr } = await runCli(['capture', `pid:${target.pid}`, '--artifacts', 'processes'], env);
      expect(stderr).toMatch(/There is no room for this capture: .* leaves it \d+ MiB, and it needs 56 MiB/);
    }
    expect(agent.child.exitCode).toBeNull();
    expect(cgroup.kills()).toBe(0);
  });
});

describe('a configuration', () => {
  test('of a newer version ends an older agent with a sentence that says so', async () => {
    await using agent = start(configFile({ holograms: { depth: 3 } }));
    expect(await agent.ended()).toBe(2);
    expect(agent.log()).toContain('holograms: unknown key, expected one of the keys in docs/configuration.md');
    expect(agent.log()).toContain('if a newer exhibit wrote it, take it out before going back to this one');
    expect(agent.log()).not.toMatch(/\bat .*\.ts:\d+/);
  });

  test('that is not there is named, with exit code 2', async () => {
    await using agent = start('/nonexistent/agent.yaml');
    expect(await agent.ended()).toBe(2);
    expect(agent.log()).toContain('Cannot read the configuration file /nonexistent/agent.yaml');
  });
});

test('a command in the pod of an agent that does not run says where its log is', async () => {
  const env = { EXHIBIT_POD: 'exhibit/exhibit-agent-x7k2p', EXHIBIT_SOCKET: `${folder}/none.sock` };
  const { code, stderr } = await runCli(['captures'], env);
  expect(code).toBe(1);
  expect(stderr).toContain('the agent of this pod is starting or has ended');
  expect(stderr).toContain('kubectl -n exhibit logs exhibit-agent-x7k2p --previous');
});
