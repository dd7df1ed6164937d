import { describe, expect, test } from 'vitest';
import { type LadderInput, planLadder } from '../../../agent/capture/ladder.ts';
import { checkpointPlanSchema, type Obstacle, type Preflight, RUNGS } from '../../../evidence/dump.ts';

const MIB = 2 ** 20;
const CLEAN: Preflight = {
  processes: 1,
  obstacles: [],
  obstacleCount: 0,
  dumpBytes: 100 * MIB,
  notes: [],
  wallMs: 1,
};
const INPUT: LadderInput = {
  offered: [
    { name: 'cri', delivers: 'archive' },
    { name: 'tasks', delivers: 'images', passes: ['openTcp', 'fileLocks', 'externalUnixSockets'] },
  ],
  policy: { rungs: RUNGS, tmpfsBytes: 1024 * MIB, whenRefused: 'try' },
  preflight: CLEAN,
  availableBytes: 16 * 1024 * MIB,
};
const TCP: Obstacle = { kind: 'tcp-established', what: 'TCP a to b', liftedBy: 'openTcp', certainty: 'certain' };
const URING: Obstacle = { kind: 'io-uring', what: 'pid 7 uses io_uring', certainty: 'certain' };
const WATCH: Obstacle = { kind: 'inotify', what: 'pid 7 watches', certainty: 'likely' };
const seen = (...obstacles: Obstacle[]): Preflight => ({ ...CLEAN, obstacles, obstacleCount: obstacles.length });

const shortOf = (input: LadderInput) =>
  checkpointPlanSchema.parse(planLadder(input)).ladder.map(({ rung, expected }) => `${rung} ${expected}`);

const askedOf = (input: LadderInput) => planLadder(input).ladder.map(({ askAnyway }) => askAnyway);

describe('the ladder', () => {
  test('begins with the way that stops the target for the shortest time', () => {
    expect(shortOf(INPUT)).toEqual(['tasks works', 'cri works']);
    expect(planLadder(INPUT).ladder.every(({ reasons }) => reasons.length === 0)).toBe(true);
  });

  test('keeps to what policy allows, in its order', () => {
    const policy = { ...INPUT.policy, rungs: ['cri', 'tasks'] } as const;
    expect(shortOf({ ...INPUT, policy })).toEqual(['cri works', 'tasks works']);
    expect(shortOf({ ...INPUT, policy: { ...INPUT.policy, rungs: ['docker', 'cri'] } })).toEqual(['cri works']);
    expect(shortOf({ ...INPUT, policy: { ...INPUT.policy, rungs: [] } })).toEqual([]);
  });

  test('asks for an option only where something needs it, and where the way passes it', () => {
    const { ladder } = planLadder({ ...INPUT, preflight: seen(TCP) });
    expect(ladder[0]).toMatchObject({
      rung: 'tasks',
      expected: 'works',
      options: { openTcp: true, fileLocks: false, externalUnixSockets: false },
    });
    expect(ladder[1]).toMatchObject({ rung: 'cri', expected: 'fails', reasons: ['TCP a to b'] });
    expect(ladder[1]?.options.openTcp).toBe(false);
  });

  test('puts what is expected to fail behind what may, and that behind what works', () => {
    expect(shortOf({ ...INPUT, preflight: seen(WATCH) })).toEqual(['tasks may-fail', 'cri may-fail']);
    expect(shortOf({ ...INPUT, preflight: seen(URING, WATCH) })).toEqual(['tasks fails', 'cri fails']);
    const policy = { ...INPUT.policy, rungs: ['cri', 'tasks'] } as const;
    expect(shortOf({ ...INPUT, policy, preflight: seen(TCP) })).toEqual(['tasks works', 'cri fails']);
  });

  test('does not count on memory that is not there', () => {
    const large = { ...CLEAN, dumpBytes: 1100 * MIB };
    const { ladder } = planLadder({ ...INPUT, preflight: large });
    expect(ladder.map(({ rung, expected }) => `${rung} ${expected}`)).toEqual(['cri works', 'tasks fails']);
    expect(ladder[1]?.reasons.join()).toBe('about 1104 MiB would be written and 1024 MiB of memory are set aside');
    // It would fill the memory before it fails: there is nothing to learn.
    expect(ladder[1]?.askAnyway).toBe(false);
    const poor = planLadder({ ...INPUT, availableBytes: 150 * MIB });
    expect(poor.tmpfsBytes).toBe(75 * MIB);
    expect(poor.ladder[0]?.rung).toBe('cri');
  });

  test('tells of a thousand sockets in four lines', () => {
    const obstacles = Array.from({ length: 100 }, (_, n) => ({ ...URING, what: `pid ${n} uses io_uring` }));
    const { ladder } = planLadder({ ...INPUT, preflight: seen(...obstacles) });
    expect(ladder[0]?.reasons).toEqual([
      'pid 0 uses io_uring',
      'pid 1 uses io_uring',
      'pid 2 uses io_uring',
      '97 more of the kind io-uring',
    ]);
  });

  test('asks for huge pages where the dump is large and small files may waste some', () => {
    const hugeOf = (change: Partial<Preflight>, tmpfsBytes = 1024 * MIB) =>
      planLadder({
        ...INPUT,
        preflight: { ...CLEAN, ...change },
        policy: { ...INPUT.policy, tmpfsBytes },
      }).hugePages;
    expect(hugeOf({})).toBe(true);
    expect(hugeOf({ dumpBytes: 10 * MIB })).toBe(false);
    expect(hugeOf({}, 100 * MIB)).toBe(false);
    expect(hugeOf({ processes: 100 })).toBe(false);
  });

  test('never asks CRIU about a process that is traced: it waits ten seconds for it', () => {
    const traced: Obstacle = { kind: 'traced', what: 'pid 7 is traced by pid 8', certainty: 'certain' };
    expect(askedOf({ ...INPUT, preflight: seen(traced) })).toEqual([false, false]);
    expect(askedOf({ ...INPUT, preflight: seen(URING) })).toEqual([true, true]);
    const policy = { ...INPUT.policy, whenRefused: 'skip' } as const;
    expect(askedOf({ ...INPUT, policy, preflight: seen(URING) })).toEqual([false, false]);
  });

  test('asks nobody where there is no CRIU', () => {
    const plan = planLadder({ ...INPUT, preflight: seen(TCP), obstacle: 'there is no criu' });
    expect(plan.ladder.map(({ askAnyway }) => askAnyway)).toEqual([false, false]);
    expect(plan.ladder.map(({ expected, reasons }) => [expected, reasons[0]])).toEqual([
      ['fails', 'there is no criu'],
      ['fails', 'there is no criu'],
    ]);
  });
});
