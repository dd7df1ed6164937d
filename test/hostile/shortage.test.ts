import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { runCli } from '../lab/agent.ts';
import { memoryCgroup } from '../lab/memory-cgroup.ts';
import {
  inside,
  type Started,
  startSurrounded,
  surroundedConfig,
  surroundedObstacle,
} from '../lab/surrounded-agent.ts';

/**
 * An agent that runs short: of a disk that fills, of memory below its own limit, of the node's as the kernel's files tell it. It refuses
 * with the number and the key, writes nothing, and takes captures again when there is room.
 */

const MIB = 2 ** 20;
/** Of one test: an agent starts, is asked a few times, and looks at its readiness every five seconds. */
const TIMEOUT_MS = 60_000;
const obstacle = surroundedObstacle();
const MKFS = '/usr/sbin/mkfs.ext4';

vi.setConfig({ testTimeout: TIMEOUT_MS });

let folder: string;
let target: ReturnType<typeof spawn>;
beforeAll(async () => {
  folder = mkdtempSync('/dev/shm/exhibit-shortage-');
  target = spawn('sleep', ['1000'], { stdio: 'ignore' });
  await once(target, 'spawn');
});
afterAll(() => {
  target.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});
beforeEach((context) => {
  if (obstacle !== undefined) context.skip(obstacle);
});

function capture(file: string, artifacts: string) {
  const env = { EXHIBIT_SOCKET: path.join(path.dirname(file), 'api.sock') };
  return runCli(['capture', `pid:${target.pid}`, '--artifacts', artifacts], env);
}

const ready = (agent: Started) => agent.said(/"msg":"rehearsed"/);

/** How often it was refused and for what, as the agent counts. */
async function refusals(agent: Started): Promise<Record<string, number>> {
  const port = /"port":(\d+)[^\n]*"msg":"metrics and probes ready"/.exec(agent.log())?.[1];
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  const counts = [...text.matchAll(/^exhibit_room_refusals_total\{short="(\w+)"\} (\d+)$/gm)];
  return Object.fromEntries(counts.flatMap(([, name = '', count]) => (count === '0' ? [] : [[name, Number(count)]])));
}

const metrics = { listen: '127.0.0.1:0' };

describe('a disk of 64 MiB', () => {
  /** An ext4 file system in a file, which only the agent's mount namespace has: it goes with the agent. */
  function disk(name: string): { at: string; prelude: string } {
    const image = path.join(folder, `${name}.img`);
    writeFileSync(image, '');
    truncateSync(image, 64 * MIB);
    execFileSync(MKFS, ['-q', '-m', '0', image]);
    const at = path.join(folder, name);
    mkdirSync(at);
    return { at, prelude: `mount -o loop ${image} ${at}` };
  }

  beforeEach((context) => {
    if (!existsSync(MKFS)) context.skip(`needs ${MKFS} (e2fsprogs)`);
    if (!existsSync('/dev/loop-control')) context.skip('needs loop devices');
  });

  test.each([
    ['its sink', (at: string) => ({ sink: { url: `file://${at}/evidence` } }), 'evidence'],
    [
      'its spool',
      (at: string) => ({ spool: { path: `${at}/spool`, disk: true, keyFile: path.join(folder, 'spool.key') } }),
      'spool',
    ],
  ])(
    'with %s that fills makes the agent refuse even light captures, until there is room again',
    async (name, section, below) => {
      writeFileSync(path.join(folder, 'spool.key'), Buffer.alloc(32, 7), { mode: 0o600 });
      const { at, prelude } = disk(name.replaceAll(' ', '-'));
      const limits = { disk: { minFreeBytes: '24MiB', minFreePercent: 0 } };
      const file = surroundedConfig(folder, { metrics, limits, ...section(at) });
      await using agent = startSurrounded(file, prelude);
      await ready(agent);
      inside(agent, `mkdir -p ${at}/${below}; head -c 40m /dev/zero > ${at}/filler`);
      const files = () => inside(agent, `find ${at} ${path.dirname(file)}/state -type f | sort`).toString();
      const before = files();
      const { code, stderr } = await capture(file, 'processes');
      expect(code).not.toBe(0);
      expect(stderr).toMatch(
        new RegExp(
          `There is no room for this capture: the disk of ${at}/${below}, where the capture would be written, has \\d+ MiB free, and limits\\.disk\\.minFreeBytes is 24 MiB`,
        ),
      );
      expect(files()).toBe(before);
      expect(await refusals(agent)).toEqual({ disk: 1 });
      inside(agent, `rm ${at}/filler`);
      const taken = await capture(file, 'processes');
      expect(taken.code, taken.stderr).toBe(0);
    },
  );

  test('that the kubelet watches too is refused by its percentage, before pods would be evicted', async () => {
    const { at, prelude } = disk('nodefs');
    const kubelet = `mkdir ${at}/kubelet; mount -t tmpfs none /var/lib; mkdir /var/lib/kubelet; mount --bind ${at}/kubelet /var/lib/kubelet`;
    const limits = { disk: { minFreeBytes: 0, minFreePercent: 40 } };
    const file = surroundedConfig(folder, { limits, sink: { url: `file://${at}/evidence` } });
    await using agent = startSurrounded(file, `${prelude}; ${kubelet}`);
    await ready(agent);
    inside(agent, `head -c 40m /dev/zero > ${at}/filler`);
    const { stderr } = await capture(file, 'processes');
    expect(stderr).toMatch(
      /is the node's and has \d\d\.\d % free, and limits\.disk\.minFreePercent is 40: the kubelet would evict pods/,
    );
    inside(agent, `rm ${at}/filler`);
    const taken = await capture(file, 'processes');
    expect(taken.code, taken.stderr).toBe(0);
  });
});

describe('a node whose kernel tells of too little memory', () => {
  /** A file of /proc, as it is now, in its place; what is written into it is what the agent reads. */
  function injected(name: string, file: string): { prelude: string; change(edit: (text: string) => string): void } {
    const copy = path.join(folder, name);
    const text = readFileSync(file, 'utf8');
    writeFileSync(copy, text);
    return { prelude: `mount --bind ${copy} ${file}`, change: (edit) => writeFileSync(copy, edit(text)) };
  }

  const full = (percent: string) => (text: string) => text.replace(/^full avg10=[\d.]+/m, `full avg10=${percent}`);
  const available = (kib: number) => (text: string) => text.replace(/^MemAvailable: .*$/m, `MemAvailable: ${kib} kB`);

  test('refuses heavy captures by pressure and by what is available, takes light ones, and is ready again by itself', async (context) => {
    if (!existsSync('/proc/pressure/memory')) context.skip('needs a kernel that counts pressure (CONFIG_PSI)');
    const [pressure, meminfo] = [injected('pressure', '/proc/pressure/memory'), injected('meminfo', '/proc/meminfo')];
    pressure.change(full('0.10'));
    const file = surroundedConfig(folder, {
      metrics,
      limits: { memory: { minAvailableBytes: '300MiB', maxPressurePercent: 20 } },
    });
    await using agent = startSurrounded(file, `${pressure.prelude}; ${meminfo.prelude}`);
    await ready(agent);
    const evidence = path.join(path.dirname(file), 'evidence');

    pressure.change(full('34.56'));
    const pressed = await capture(file, 'memory');
    expect(pressed.stderr).toContain(
      'the node waits for memory 34.56 % of the time (full avg10 of /proc/pressure/memory), and limits.memory.maxPressurePercent is 20',
    );
    expect(existsSync(evidence)).toBe(false);
    expect((await capture(file, 'processes')).code).toBe(0);
    await agent.said(/room: the node waits for memory 34.56 %/);
    pressure.change(full('19.99'));
    const eased = await capture(file, 'memory');
    expect(eased.code, eased.stderr).toBe(0);

    meminfo.change(available(262_144));
    const short = await capture(file, 'memory');
    expect(short.stderr).toContain(
      '256 MiB of memory are available on the node, and limits.memory.minAvailableBytes is 300 MiB',
    );
    meminfo.change((text) => text);
    const enough = await capture(file, 'memory');
    expect(enough.code, enough.stderr).toBe(0);
    expect(await refusals(agent)).toEqual({ pressure: 1, memory: 1 });
    await agent.said(/a capture would not work[\s\S]*a capture would work/);
  });
});

describe("an agent whose pod's memory somebody else takes", () => {
  test('refuses heavy captures with what its limit leaves it, and takes them when that is given back', async (context) => {
    await using cgroup = memoryCgroup(640 * MIB) ?? context.skip('needs a memory controller that may be used');
    const file = surroundedConfig(folder, { metrics, spool: { bytes: '1MiB' }, memory: { bufferBytes: '64MiB' } });
    await using agent = await cgroup.within(async () => startSurrounded(file));
    await ready(agent);
    const hold = `const held = Buffer.alloc(${380 * MIB}, 1); process.stdout.write(String(held.length)); setInterval(() => {}, 1e6)`;
    const eater = await cgroup.within(async () =>
      spawn(process.execPath, ['-e', hold], { stdio: ['ignore', 'pipe', 'inherit'] }),
    );
    try {
      await once(eater.stdout, 'data');
      const refused = await capture(file, 'memory');
      expect(refused.stderr).toMatch(/the agent's memory limit leaves it \d+ MiB, and it needs 128 MiB/);
      expect(await refusals(agent)).toEqual({ memory: 1 });
    } finally {
      const ended = once(eater, 'exit');
      eater.kill('SIGKILL');
      await ended;
    }
    const taken = await capture(file, 'memory');
    expect(taken.code, taken.stderr).toBe(0);
    expect(cgroup.kills()).toBe(0);
  });
});
