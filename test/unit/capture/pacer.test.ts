import { describe, expect, test } from 'vitest';
import { createPacer, type PacerOptions } from '../../../agent/capture/pacer.ts';

const never = new AbortController().signal;
const MIB = 2 ** 20;

/** A machine whose time goes on by work and by waiting alone. */
function machine(options: Partial<PacerOptions>) {
  const state = { ms: 0, cpuMs: 0, sleptMs: 0 };
  const pacer = createPacer({
    ...{ cpuPercent: 0, readBytesPerSecond: 0 },
    pace: {
      now: () => state.ms,
      sleep: async (ms, signal) => {
        signal.throwIfAborted();
        state.ms += ms;
        state.sleptMs += ms;
      },
    },
    cpuMs: () => state.cpuMs,
    ...options,
  });
  /** `cores` at work for so long. */
  const work = (ms: number, cores = 1) => {
    state.ms += ms;
    state.cpuMs += ms * cores;
  };
  return { state, pacer, work };
}

describe('a share of a core', () => {
  test.each([
    [50, 1],
    [100, 2],
    [25, 2],
  ])('of %d percent is kept to, whatever %d cores at work would use', async (cpuPercent, cores) => {
    const { state, pacer, work } = machine({ cpuPercent });
    for (let piece = 0; piece < 1000; piece += 1) {
      work(3, cores);
      await pacer.pay(0, never);
    }
    expect((100 * state.cpuMs) / state.ms).toBeGreaterThan(cpuPercent * 0.97);
    expect((100 * state.cpuMs) / state.ms).toBeLessThan(cpuPercent * 1.03);
    expect(pacer.pacedMs).toEqual({ cpu: state.sleptMs, read: 0 });
  });

  test('that is not used up makes nobody wait', () => {
    const { pacer, work, state } = machine({ cpuPercent: 50 });
    for (let piece = 0; piece < 100; piece += 1) {
      work(1, 0.4);
      expect(pacer.pay(0, never)).toBeUndefined();
    }
    expect(state.sleptMs).toBe(0);
  });

  test('is saved up for milliseconds only, however long nothing was done', async () => {
    const { state, pacer, work } = machine({ cpuPercent: 50 });
    state.ms += 3_600_000;
    work(100);
    await pacer.pay(0, never);
    expect(state.sleptMs).toBeGreaterThan(80);
  });

  test('does not count what was done in a hurry', async () => {
    const { state, pacer, work } = machine({ cpuPercent: 50 });
    work(5000, 2);
    pacer.forgive();
    work(2);
    expect(pacer.pay(0, never)).toBeUndefined();
    expect(state.sleptMs).toBe(0);
  });

  test('stops nobody for longer than a second at once', async () => {
    const { state, pacer, work } = machine({ cpuPercent: 1 });
    work(60_000);
    await pacer.pay(0, never);
    expect(state.sleptMs).toBe(1000);
    // Nor again and again for the same hour of work.
    expect(pacer.pay(0, never)).toBeUndefined();
  });

  test('is forgiven with what was already owed', async () => {
    const { state, pacer, work } = machine({ cpuPercent: 50 });
    work(400);
    void pacer.pay(0, AbortSignal.abort(new Error('gone')))?.catch(() => undefined);
    pacer.forgive();
    work(2, 0.4);
    expect(pacer.pay(0, never)).toBeUndefined();
    expect(state.sleptMs).toBe(0);
  });

  test('costs the kernel one question a millisecond, however small the pieces are', () => {
    let asked = 0;
    const cpuMs = () => {
      asked += 1;
      return 0;
    };
    const { state, pacer } = machine({ cpuPercent: 50, cpuMs });
    const before = asked;
    for (let piece = 0; piece < 1000; piece += 1) {
      state.ms += 0.01;
      void pacer.pay(0, never);
    }
    expect(asked - before).toBeGreaterThan(5);
    expect(asked - before).toBeLessThanOrEqual(10);
  });
});

describe('a share of the disks', () => {
  test('is kept to over any time, but for one piece', async () => {
    const { state, pacer } = machine({ readBytesPerSecond: 64 * MIB });
    const pieces: { atMs: number; bytes: number }[] = [];
    for (let read = 0; read < 256; read += 1) {
      await pacer.pay(MIB, never);
      pieces.push({ atMs: state.ms, bytes: MIB });
    }
    for (const { atMs: from } of pieces) {
      const within = pieces.filter(({ atMs }) => atMs >= from && atMs < from + 1000);
      expect(within.reduce((sum, { bytes }) => sum + bytes, 0)).toBeLessThanOrEqual(66 * MIB);
    }
    expect(state.ms).toBeGreaterThan(3900);
    expect(pacer.pacedMs.read).toBe(state.sleptMs);
  });

  test('of 0 is no limit', () => {
    const { pacer } = machine({});
    expect(pacer.pay(2 ** 40, never)).toBeUndefined();
  });

  test('is waited for until the signal says not to', async () => {
    const { pacer } = machine({ readBytesPerSecond: MIB });
    await expect(pacer.pay(16 * MIB, AbortSignal.abort(new Error('cancelled by hand')))).rejects.toThrow('by hand');
  });
});
