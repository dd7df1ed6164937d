import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readdirSync, readFileSync, readSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, type TestContext, test } from 'vitest';
import { type Frozen, type Registers, startFreezer } from '../../agent/capture/freeze.ts';
import type { SingleFreezeSpec } from '../../agent/runtime/runtime.ts';
import { type CoreExtent, type CoreRegion, coreBytes, layoutCore } from '../../evidence/elfcore.ts';
import { guardOf } from './freeze-bench.ts';
import { cgroupFor, compile, missing, start, statusOf, type Workload } from './freeze-workload.ts';

/** What the guard reads of standing threads, judged by gdb; and that the threads never notice. */

const soon = () => AbortSignal.timeout(60_000);
const obstacle = missing('gcc') ?? (['x64', 'arm64'].includes(process.arch) ? undefined : 'needs x86-64 or arm64');

let built: ReturnType<typeof compile> | undefined;
beforeAll(() => {
  if (obstacle === undefined) built = compile();
});
afterAll(() => built?.[Symbol.dispose]());

function program(context: TestContext): string {
  if (obstacle !== undefined) context.skip(obstacle);
  return built?.program ?? '';
}

function orSkip<Value>(context: TestContext, value: Value | string): Value {
  if (typeof value === 'string') return context.skip(value);
  return value;
}

/** Freezes, takes the registers, does `meanwhile`, thaws. */
async function frozenOnce(
  spec: SingleFreezeSpec,
  meanwhile?: (registers: Registers) => Promise<void>,
): Promise<Registers> {
  await using freezer = await startFreezer(spec, soon());
  await using frozen = await freezer.freeze({ deadlineMs: 30_000, signal: soon() });
  const registers = await frozen.registers;
  await meanwhile?.(registers);
  return registers;
}

const threadsOf = (pid: number): number[] => readdirSync(`/proc/${pid}/task`).map(Number);

/** Every thread runs free: none is traced, none is in a stop. */
function expectFree(pid: number): void {
  for (const tid of threadsOf(pid)) {
    expect(statusOf(tid, 'TracerPid')).toBe('0');
    expect('SR').toContain(statusOf(tid, 'State'));
  }
}

async function until(what: () => boolean, boundMs = 5_000): Promise<void> {
  const bound = performance.now() + boundMs;
  while (!what() && performance.now() < bound) await sleep(10);
  expect(what()).toBe(true);
}

describe.each(['signal', 'cgroup-v2'] as const)('registers of threads that stand by %s', (kind) => {
  interface Target {
    readonly workload: Workload;
    readonly spec: SingleFreezeSpec;
    dispose(): Promise<void>;
  }

  async function target(context: TestContext, what: string): Promise<Target> {
    const workload = await start(program(context), what);
    if (kind === 'signal')
      return { workload, spec: { kind, pids: [workload.pid] }, dispose: async () => workload[Symbol.asyncDispose]() };
    const cgroup = cgroupFor(workload.pid, 2);
    if (typeof cgroup === 'string') await workload[Symbol.asyncDispose]();
    const { spec, [Symbol.asyncDispose]: remove } = orSkip(context, cgroup);
    const dispose = async () => {
      await workload[Symbol.asyncDispose]();
      await remove();
    };
    return { workload, spec, dispose };
  }

  test('are those of all threads, and say what the threads were doing', async (context) => {
    const { workload, spec, dispose } = await target(context, 'spins');
    try {
      const { threads, note } = await frozenOnce(spec);
      expect(note).toBeUndefined();
      expect([...threads.keys()].sort()).toEqual(threadsOf(workload.pid).sort());
      if (process.arch === 'x64') {
        // user_regs_struct: r15 first, rbx the sixth.
        const spinner = [...threads.values()].filter(({ general }) => {
          return new DataView(general.buffer).getBigUint64(5 * 8, true) === 0x1122334455667788n;
        });
        expect(spinner).toHaveLength(1);
        expect(spinner[0]?.floating).toHaveLength(512);
        expect(spinner[0]?.extra?.map(({ type }) => type)).toEqual([0x202]);
      }
      await until(() => threadsOf(workload.pid).every((tid) => 'SR'.includes(statusOf(tid, 'State'))));
      expectFree(workload.pid);
    } finally {
      await dispose();
    }
  });

  test('of 500 threads are read, and 500 threads run on', async (context) => {
    const { workload, spec, dispose } = await target(context, '500');
    try {
      const { threads, note } = await frozenOnce(spec);
      expect(note).toBeUndefined();
      expect(threads.size).toBe(500);
      await until(() => threadsOf(workload.pid).every((tid) => statusOf(tid, 'State') === 'S'));
      expectFree(workload.pid);
      workload.child.kill('SIGUSR1');
      await until(() => workload.lines.includes('usr1'));
    } finally {
      await dispose();
    }
  });

  test('do not disturb a sleep, a futex or a poll more than the freeze itself does', async (context) => {
    const { workload, spec, dispose } = await target(context, 'waits');
    try {
      await using freezer = await startFreezer(spec, soon());
      const [first, second] = [async () => undefined, async (frozen: Frozen) => frozen.registers];
      for (const wait of [first, second]) {
        await using frozen = await freezer.freeze({ deadlineMs: 10_000, signal: soon() });
        const registers = await wait(frozen);
        if (registers !== undefined) expect(registers.threads.size).toBe(4);
      }
      await until(() => workload.lines.includes('nanosleep 0'));
      expect(workload.lines.filter((line) => line.startsWith('futex'))).toEqual([]);
      // signal(7): epoll_wait(2) ends with EINTR when a process is stopped and goes on. Once a freeze, not twice.
      const polls = workload.lines.filter((line) => line.startsWith('epoll'));
      expect(polls.length).toBeLessThanOrEqual(2);
      expect(new Set(polls).size).toBeLessThanOrEqual(1);
    } finally {
      await dispose();
    }
  });

  test('a signal that came meanwhile is delivered once, after the thaw', async (context) => {
    const { workload, spec, dispose } = await target(context, '20');
    try {
      await using freezer = await startFreezer(spec, soon());
      const frozen = await freezer.freeze({ deadlineMs: 10_000, signal: soon() });
      workload.child.kill('SIGUSR1');
      await frozen.registers;
      expect(workload.lines).toEqual([]);
      await frozen.thaw();
      await until(() => workload.lines.length > 0);
      await sleep(50);
      expect(workload.lines).toEqual(['usr1']);
    } finally {
      await dispose();
    }
  });

  test('a process that its user had stopped is read, and stays stopped', async (context) => {
    const { workload, spec, dispose } = await target(context, '5');
    try {
      workload.child.kill('SIGSTOP');
      await until(() => threadsOf(workload.pid).every((tid) => statusOf(tid, 'State') === 'T'));
      const { threads } = await frozenOnce(spec);
      expect(threads.size).toBe(5);
      await sleep(100);
      for (const tid of threadsOf(workload.pid)) {
        expect(statusOf(tid, 'State')).toBe('T');
        expect(statusOf(tid, 'TracerPid')).toBe('0');
      }
      workload.child.kill('SIGCONT');
      await until(() => threadsOf(workload.pid).every((tid) => statusOf(tid, 'State') === 'S'));
      workload.child.kill('SIGUSR1');
      await until(() => workload.lines.includes('usr1'));
    } finally {
      await dispose();
    }
  });

  test('a process killed while it is read ends, and so does the freeze', async (context) => {
    const { workload, spec, dispose } = await target(context, '500');
    try {
      await using freezer = await startFreezer(spec, soon());
      const frozen = await freezer.freeze({ deadlineMs: 10_000, signal: soon() });
      await sleep(10);
      workload.child.kill('SIGKILL');
      // It ends in the freezer; a thread that a tracer has not let go of would keep it there.
      await once(workload.child, 'exit');
      expect((await frozen.thaw()).thawedBy).toBe('agent');
      expect((await frozen.registers).threads.size).toBeLessThanOrEqual(500);
    } finally {
      await dispose();
    }
  });

  test('the guard killed in the middle of the reading leaves no thread traced or stopped', async (context) => {
    const { workload, spec, dispose } = await target(context, '500');
    try {
      await using freezer = await startFreezer(spec, soon());
      const frozen = await freezer.freeze({ deadlineMs: 30_000, signal: soon() });
      process.kill(guardOf(process.pid), 'SIGKILL');
      expect((await frozen.thaw()).notes.join()).toContain('the agent thawed in its place');
      expect((await frozen.registers).note).toBeTypeOf('string');
      await until(() => threadsOf(workload.pid).every((tid) => statusOf(tid, 'State') === 'S'));
      expectFree(workload.pid);
      workload.child.kill('SIGUSR1');
      await until(() => workload.lines.includes('usr1'));
    } finally {
      await dispose();
    }
  });

  test('a guard that hangs is ended, and the agent thaws in its place', async (context) => {
    const { workload, spec, dispose } = await target(context, '500');
    try {
      await using freezer = await startFreezer(spec, soon(), { overdueMs: 300 });
      const frozen = await freezer.freeze({ deadlineMs: 500, signal: soon() });
      process.kill(guardOf(process.pid), 'SIGSTOP');
      await until(() => threadsOf(workload.pid).every((tid) => statusOf(tid, 'State') === 'S'));
      expectFree(workload.pid);
      expect((await frozen.thaw()).notes.join()).toContain('the agent thawed in its place');
    } finally {
      await dispose();
    }
  });

  test('a thaw in the middle of the reading is not held up, and says what was not read', async (context) => {
    const { workload, spec, dispose } = await target(context, '500');
    try {
      await using freezer = await startFreezer(spec, soon());
      const frozen = await freezer.freeze({ deadlineMs: 10_000, signal: soon() });
      await frozen.thaw();
      const { threads, note } = await frozen.registers;
      expect(threads.size).toBeLessThan(500);
      expect(note).toContain('the freeze ended');
      await until(() => threadsOf(workload.pid).every((tid) => statusOf(tid, 'State') === 'S'));
      expectFree(workload.pid);
    } finally {
      await dispose();
    }
  });

  test('a process that somebody else traces is left to its tracer', async (context) => {
    const reason = missing('strace');
    if (reason !== undefined) context.skip(reason);
    const { workload, spec, dispose } = await target(context, '3');
    const strace = spawn('strace', ['-f', '-o', '/dev/null', '-p', String(workload.pid)], { stdio: 'ignore' });
    try {
      await until(() => statusOf(workload.pid, 'TracerPid') === String(strace.pid));
      const { threads, note } = await frozenOnce(spec);
      expect(threads.size).toBe(0);
      expect(note).toMatch(/3 threads: EPERM: another tracer/);
      expect(statusOf(workload.pid, 'TracerPid')).toBe(String(strace.pid));
    } finally {
      strace.kill('SIGKILL');
      await once(strace, 'exit');
      await dispose();
    }
  });

  test('a thread in vfork, which no trap reaches, is left alone', async (context) => {
    const { workload, spec, dispose } = await target(context, 'vforks');
    try {
      const { note } = await frozenOnce(spec);
      expect(note).toMatch(/vfork|not all threads/);
      await until(() => workload.lines.includes('vfork 0'), 20_000);
      expectFree(workload.pid);
    } finally {
      await dispose();
    }
  });

  const judges = missing('gdb');
  test.skipIf(judges)(`a core with them shows gdb what the live process does ${judges ?? ''}`, async (context) => {
    const { workload, spec, dispose } = await target(context, 'spins');
    try {
      const core = path.join(path.dirname(program(context)), `core-${kind}`);
      await frozenOnce(spec, (registers) => writeCore(core, workload, registers));
      const ours = gdb([program(context), core]);
      expect(ours.registers).toMatch(/rbx|x19/);
      expect(ours.backtraces).toContain('deep (depth=');
      // It waits in the same calls and runs in the same loop; in the freezer gdb's own attach would wait for the thaw.
      expect(gdb([program(context), '-p', String(workload.pid)])).toEqual(ours);
    } finally {
      await dispose();
    }
  });
});

/** Whole readable mappings, as a debugger that knows nothing of pagemap would do it. */
async function writeCore(file: string, { pid }: Workload, { threads }: Registers): Promise<void> {
  const memory = openSync(`/proc/${pid}/mem`, 'r');
  const regions: CoreRegion[] = [];
  for (const line of readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n')) {
    const match = /^(\w+)-(\w+) (r.*?) (\w+) \S+ \d+ *(.*)$/.exec(line);
    if (match === null || /^\[v(syscall|var)/.test(match[5] ?? '')) continue;
    const [, from = '', to = '', mode = '', at = '', name = ''] = match;
    const [first, end] = [BigInt(`0x${from}`), BigInt(`0x${to}`)];
    regions.push({
      ...{ start: first, end, readable: true, writable: mode[1] === 'w', executable: mode[2] === 'x' },
      ...(name.startsWith('/') ? { file: { path: Buffer.from(name), offset: BigInt(`0x${at}`) } } : {}),
      ...{ zeroElsewhere: false, extents: [{ start: first, bytes: Number(end - first) }], unknown: [] },
    });
  }
  const layout = layoutCore({
    machine: process.arch === 'arm64' ? 'arm64' : 'x86-64',
    pageBytes: 4096,
    process: {
      ...{ pid, ppid: process.pid, processGroup: pid, session: pid, uid: 0, gid: 0, state: 'S', nice: 0, flags: 0n },
      command: Buffer.from('workload'),
      commandLine: readFileSync(`/proc/${pid}/cmdline`),
      auxv: readFileSync(`/proc/${pid}/auxv`),
      threads: [...threads]
        .sort(([a], [b]) => a - b)
        .map(([tid, set]) => ({ tid, registers: { kind: 'full', ...set } })),
    },
    regions,
  });
  const read = ({ start: first, bytes }: CoreExtent): Uint8Array[] => {
    const buffer = Buffer.alloc(bytes);
    readSync(memory, buffer, 0, bytes, Number(first));
    return [buffer];
  };
  const chunks: Uint8Array[] = [];
  for await (const chunk of coreBytes(layout, read)) chunks.push(chunk);
  writeFileSync(file, Buffer.concat(chunks));
  closeSync(memory);
}

const SHOW = 'thread apply all -ascending -q info registers';
const VECTORS = `thread apply all -ascending -q info registers ${process.arch === 'x64' ? 'xmm0 xmm7 mxcsr' : 'v0 fpcr'}`;

/** What gdb says of every thread. */
function gdb(what: readonly string[]): { registers: string; vectors: string; backtraces: string } {
  const marks = ['echo @@', SHOW, 'echo @@', VECTORS, 'echo @@', 'thread apply all -ascending -q bt', 'echo @@'];
  const words = ['-nx', '-batch', ...what, ...marks.flatMap((command) => ['-ex', command])];
  const { stdout, stderr } = spawnSync('gdb', words, { encoding: 'utf8', timeout: 60_000 });
  // gdb before 14 warns of every XSAVE area with AMX in it, in the kernel's own cores too, and reads the rest.
  // And on AMD it finds the mask registers k0 to k7 of a live process <unavailable>, while it reads those of a core.
  const told = stdout.replaceAll(/^(warning: .*|k[0-7] +.*)\n/gm, '');
  const [, registers = stderr, vectors = '', backtraces = ''] = told.split('@@');
  return { registers, vectors, backtraces };
}

test('in the version 1 freezer no thread is touched, and the note says so', async (context) => {
  await using workload = await start(program(context), '3');
  await using cgroup = orSkip(context, cgroupFor(workload.pid, 1));
  const { threads, note } = await frozenOnce(cgroup.spec);
  expect(threads.size).toBe(0);
  expect(note).toContain('cgroup-v1');
  await until(() => threadsOf(workload.pid).every((tid) => statusOf(tid, 'State') === 'S'));
  expectFree(workload.pid);
});

test('where /proc is not of the guard’s pid namespace there are none, and the note says so', async (context) => {
  await using workload = await start(program(context), '3');
  await using cgroup = orSkip(context, cgroupFor(workload.pid, 2));
  await using freezer = await startFreezer(cgroup.spec, soon(), { procRoot: '/nowhere' });
  await using frozen = await freezer.freeze({ deadlineMs: 10_000, signal: soon() });
  const { threads, note } = await frozen.registers;
  expect(threads.size).toBe(0);
  expect(note).toContain('another pid namespace');
});

test('of threads in cgroups below are read as well', async (context) => {
  await using workload = await start(program(context), '3');
  await using cgroup = orSkip(context, cgroupFor(workload.pid, 2));
  const below = path.join(cgroup.folder, 'below');
  const { mkdirSync, rmdirSync } = await import('node:fs');
  mkdirSync(below);
  try {
    writeFileSync(path.join(below, 'cgroup.procs'), String(workload.pid));
    expect((await frozenOnce(cgroup.spec)).threads.size).toBe(3);
  } finally {
    await workload[Symbol.asyncDispose]();
    await until(() => !readFileSync(path.join(below, 'cgroup.procs'), 'utf8').trim());
    rmdirSync(below);
  }
});
