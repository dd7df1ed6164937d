import { describe, expect, test } from 'vitest';
import { walSync } from '../../../../controller/store/wal-sync.ts';

/** A disk whose syncs end when told. */
function slowDisk() {
  const asked: PromiseWithResolvers<void>[] = [];
  const sync = () => {
    const one = Promise.withResolvers<void>();
    asked.push(one);
    return one.promise;
  };
  return { asked, log: walSync(async () => ({ sync, close: async () => undefined }), '/x.db') };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

describe('the sync of the log', () => {
  test('is shared by all who ask while another is under way, and is not the one that began before them', async () => {
    const { asked, log } = slowDisk();
    const done: string[] = [];
    const ask = (name: string) => log.sync().then(() => done.push(name));
    void ask('first');
    await turn();
    void ask('second');
    void ask('third');
    await turn();
    expect(asked.length).toBe(1);
    asked[0]?.resolve();
    await turn();
    expect(done).toEqual(['first']);
    expect(asked.length).toBe(2);
    void ask('fourth');
    asked[1]?.resolve();
    await turn();
    expect(done).toEqual(['first', 'second', 'third']);
    asked[2]?.resolve();
    await log.idle();
    expect(done).toEqual(['first', 'second', 'third', 'fourth']);
  });

  test('fails for all who wait, and for everybody after it, once it has failed', async () => {
    const { asked, log } = slowDisk();
    const first = log.sync();
    const second = log.sync();
    await turn();
    asked[0]?.reject(new Error('EIO'));
    await expect(first).rejects.toMatchObject({ code: 'store-failed' });
    await expect(second).rejects.toMatchObject({ code: 'store-failed' });
    expect(() => log.check()).toThrow('could not be brought to the disk');
    expect(asked.length).toBe(1);
  });
});
