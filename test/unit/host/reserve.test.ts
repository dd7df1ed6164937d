import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { startFreezer } from '../../../agent/capture/freeze.ts';
import { openGuardReserve } from '../../../agent/capture/guard-link.ts';
import { CopyRoom } from '../../../agent/host/copy-room.ts';
import { openThreadReserve, startCopyThreads } from '../../../agent/host/copy-threads.ts';
import { followedBy, openReserve, refillWithin } from '../../../agent/host/reserve.ts';

/** Things that are counted, and end when they are told. */
function counted(count: number) {
  interface Thing {
    readonly name: number;
    isEnded: boolean;
    endByItself: () => void;
  }
  const started: Thing[] = [];
  const reserve = openReserve({
    count,
    start: () => {
      const item: Thing = { name: started.length, isEnded: false, endByItself: () => undefined };
      started.push(item);
      return item;
    },
    onEnd: (item, ended) => {
      item.endByItself = ended;
    },
    end: async (item) => {
      item.isEnded = true;
    },
  });
  return { started, reserve };
}

describe('a reserve', () => {
  test('starts as many as are missing, and no more', () => {
    const { started, reserve } = counted(2);
    reserve.refill();
    reserve.refill();
    expect(started).toHaveLength(2);
    reserve.take();
    reserve.refill();
    expect(started).toHaveLength(3);
  });

  test('hands each out once, and a new one where none waits', () => {
    const { reserve } = counted(2);
    reserve.refill();
    expect([reserve.take().name, reserve.take().name, reserve.take().name]).toEqual([0, 1, 2]);
  });

  test('never hands out one that ended while it waited', () => {
    const { started, reserve } = counted(1);
    reserve.refill();
    started[0]?.endByItself();
    expect(reserve.take().name).toBe(1);
  });

  test('ends those that wait when it is closed, leaves those that were taken, and starts no more', async () => {
    const { started, reserve } = counted(2);
    reserve.refill();
    reserve.take();
    await reserve[Symbol.asyncDispose]();
    reserve.refill();
    expect(started.map(({ isEnded }) => isEnded)).toEqual([false, true]);
  });
});

describe('what follows work', () => {
  test('comes when the last of it has ended, however it ended', async () => {
    const ends = [0, 1, 2].map(() => Promise.withResolvers<number>());
    let followed = 0;
    let isStillIdle = () => false;
    const work = followedBy(
      async (at: number) => await ends[at]?.promise,
      (isIdle) => {
        followed += 1;
        isStillIdle = isIdle;
      },
    );
    const running = [work(0), work(1)];
    ends[0]?.resolve(7);
    expect(await running[0]).toBe(7);
    expect(followed).toBe(0);
    running.push(work(2));
    ends[1]?.reject(new Error('no'));
    await expect(running[1]).rejects.toThrow('no');
    expect(followed).toBe(0);
    ends[2]?.resolve(9);
    expect(await running[2]).toBe(9);
    expect(followed).toBe(1);
    expect(isStillIdle()).toBe(true);
    const again = Promise.withResolvers<number>();
    ends.push(again);
    const last = work(3);
    expect(isStillIdle()).toBe(false);
    again.resolve(0);
    await last;
  });
});

describe('reserves that are filled after work', () => {
  test('are left as they are without room for them, and when work has begun meanwhile', async () => {
    const { started, reserve } = counted(1);
    const onFailure = vi.fn();
    await refillWithin([reserve], { hasRoom: async () => false, onFailure })();
    await refillWithin([reserve], { hasRoom: async () => true, onFailure })(() => false);
    expect(started).toHaveLength(0);
    await refillWithin([reserve], { hasRoom: async () => true, onFailure })();
    expect(started).toHaveLength(1);
    expect(onFailure).not.toHaveBeenCalled();
  });

  test('end nobody when nothing can be started: who awaits the filling, and who does not, goes on', async () => {
    const failure = Object.assign(new Error('spawn ENOMEM'), { code: 'ENOMEM' });
    const onFailure = vi.fn();
    const { reserve } = counted(1);
    const broken = {
      refill: () => {
        throw failure;
      },
    };
    await refillWithin([broken, reserve], { hasRoom: async () => true, onFailure })();
    expect(onFailure).toHaveBeenCalledExactlyOnceWith(failure);
  });
});

describe('the guard that waits', () => {
  test('takes its first order as a new one does', async () => {
    await using guards = openGuardReserve({});
    guards.refill();
    const nobody = startFreezer({ kind: 'signal', pids: [2 ** 22] }, new AbortController().signal, {
      guard: guards.take,
    });
    await expect(nobody).rejects.toMatchObject({ code: 'freeze-failed' });
  });

  test('is not handed out when it was killed', async () => {
    await using guards = openGuardReserve({});
    guards.refill();
    const first = guards.take();
    await first.dismiss();
    guards.refill();
    const waits = guards.take();
    process.kill(waits.pid ?? 0, 'SIGKILL');
    await waits.ended;
    expect(waits.pid).not.toBe(first.pid);
  });

  test('ends when the process that started it is killed', async () => {
    const link = path.resolve('agent/capture/guard-link.ts');
    const program = `import { openGuardReserve } from ${JSON.stringify(link)};
      const guards = openGuardReserve({});
      guards.refill();
      console.log(guards.take().pid);
      setInterval(() => undefined, 1e6);`;
    const owner = spawn(process.execPath, ['--input-type=module', '-e', program], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [line] = (await once(owner.stdout, 'data')) as [Buffer];
    const pid = Number(line.toString());
    expect(readFileSync(`/proc/${pid}/cmdline`, 'latin1')).toContain('guard.ts');
    owner.kill('SIGKILL');
    await vi.waitFor(() => expect(() => readFileSync(`/proc/${pid}/stat`)).toThrow('ENOENT'), 15_000);
  });

  test('ends with its reserve', async () => {
    const guards = openGuardReserve({});
    guards.refill();
    const guard = guards.take();
    guards.refill();
    await guards[Symbol.asyncDispose]();
    await guard.dismiss();
    await guard.ended;
    expect(() => process.kill(guard.pid ?? 0, 0)).toThrow('ESRCH');
  });
});

describe('threads that wait', () => {
  test('copy for whoever takes them, with room and stop of their own', async () => {
    await using reserve = openThreadReserve();
    reserve.refill();
    const file = path.join(mkdtempSync(path.join(tmpdir(), 'exhibit-reserve-')), 'memory');
    writeFileSync(file, Buffer.alloc(4096, 'exhibit'));
    const fd = openSync(file, 'r');
    for (let round = 0; round < 2; round += 1) {
      const room = new CopyRoom(64 * 1024, 4096);
      await using threads = await startCopyThreads(room, 4096, { take: reserve.take });
      const source = { pid: 0, fd, ranges: BigUint64Array.of(0n, 4096n) };
      expect((await threads.copy(source, 0, 4096)).failures).toEqual([]);
      threads.stop();
      expect((await threads.copy(source, 4096, 4096)).failures).toEqual([{ start: 0n, bytes: 4096, reason: 'left' }]);
      expect(Buffer.concat([...room.take(0, 4096)]).equals(readFileSync(file))).toBe(true);
      reserve.refill();
    }
    closeSync(fd);
    rmSync(path.dirname(file), { recursive: true });
  });
});
