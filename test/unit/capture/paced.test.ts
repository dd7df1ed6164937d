import { describe, expect, test } from 'vitest';
import type { Frozen } from '../../../agent/capture/freeze.ts';
import { paceStep } from '../../../agent/capture/paced.ts';
import type { Archive, ForeignArchive, TextObject } from '../../../agent/collect/collector.ts';
import type { ArtifactName } from '../../../evidence/layout.ts';

/** Counts what the pacer is asked for, by bytes of a disk. */
function pace(artifact: ArtifactName, frozen = false, wait: () => Promise<void> = () => Promise.resolve()) {
  const paid: number[] = [];
  let forgiven = 0;
  const pacer = {
    pay: (bytes: number) => {
      paid.push(bytes);
      return wait();
    },
    forgive: () => {
      forgiven += 1;
    },
    pacedMs: { cpu: 0, read: 0 },
  };
  const step = { artifact, volatility: 2, frozen, action: 'collect' as const, reason: '' };
  const added: number[] = [];
  const archive: Archive = {
    add: async (header, body) => {
      for await (const chunk of body instanceof Uint8Array ? [body] : (body ?? [])) added.push(chunk.length);
      return { member: { path: header.path, sizeBytes: header.sizeBytes ?? 0, type: 'file' }, bodyBytes: 0 } as Awaited<
        ReturnType<Archive['add']>
      >;
    },
    commit: async () => undefined,
    [Symbol.asyncDispose]: async () => undefined,
  };
  const paced = paceStep({ step, signal: new AbortController().signal, pacer });
  const through = paced.archive(archive);
  const header = { path: 'file', type: 'file', sizeBytes: 0, mode: 0, mtimeNs: 0n } as const;
  const add = (...sizes: number[]) =>
    through.add(
      header,
      sizes.map((size) => new Uint8Array(size)),
    );
  const addWhole = (size: number) => through.add(header, new Uint8Array(size));
  return { paced, paid, added, add, addWhole, forgiven: () => forgiven };
}

const frozen = (): Frozen => ({
  deadline: 0,
  expired: false,
  registers: new Promise(() => undefined),
  thaw: async () => ({ pauseMs: 1 }) as Awaited<ReturnType<Frozen['thaw']>>,
  async [Symbol.asyncDispose]() {},
});

describe('the content of a step', () => {
  test('from a disk is paid for piece by piece, whole', async () => {
    const { add, paid, added } = pace('rootfs');
    await add(10, 20, 30);
    expect(paid).toEqual([10, 20, 30]);
    expect(added).toEqual([10, 20, 30]);
  });

  test('pays once for what passed and was read, and later for what was only read', async () => {
    const { paced, add, paid } = pace('rootfs');
    await add(100);
    paced.read(100);
    paced.read(40);
    await add(7);
    expect(paid).toEqual([100, 47]);
  });

  test('is paid for as well where it comes in one piece', async () => {
    const { addWhole, paid, added } = pace('rootfs');
    await addWhole(50);
    expect([paid, added]).toEqual([[50], [50]]);
  });

  test('is paid for before it goes into an archive that somebody else made, and before a line', async () => {
    const order: string[] = [];
    const { paced } = pace('image', false, async () => void order.push('paid'));
    const nothing = { commit: async () => undefined, [Symbol.asyncDispose]: async () => undefined };
    const foreign = { ...nothing, write: async () => void order.push('written') } as unknown as ForeignArchive;
    const text = { ...nothing, line: () => void order.push('line') } as unknown as TextObject;
    await paced.foreignArchive(foreign).write(new Uint8Array(70));
    await paced.text(text).line('words');
    expect(order).toEqual(['paid', 'written', 'paid', 'line']);
  });

  test('says how long it was held back', async () => {
    const { paced, add } = pace('rootfs', false, () => new Promise((resolve) => setImmediate(resolve)));
    expect(paced.pacedMs).toBe(0);
    await add(1);
    expect(paced.pacedMs).toBeGreaterThan(0);
  });

  test('passes on when the wait for it is called off: who is cancelled hears it from the sink', async () => {
    const { add, added } = pace('rootfs', false, () => Promise.reject(new Error('cancelled by hand')));
    await add(1, 2);
    expect(added).toEqual([1, 2]);
  });

  test('that is light never waits', async () => {
    const { add, paid } = pace('processes');
    await add(1000);
    expect(paid).toEqual([]);
  });

  test('of memory takes nothing of the disks, and nothing at all before the target runs again', async () => {
    const { paced, add, paid, forgiven } = pace('memory', true);
    await add(1);
    const held = await paced.freezing(async () => frozen());
    await add(2);
    expect(paid).toEqual([]);
    await held.thaw();
    expect(forgiven()).toBe(1);
    await add(3, 4);
    expect(paid).toEqual([0, 0]);
  });

  test('of memory is held back after a freeze that failed', async () => {
    const { paced, add, paid } = pace('memory', true);
    await expect(paced.freezing(() => Promise.reject(new Error('no')))).rejects.toThrow('no');
    await add(3);
    expect(paid).toEqual([0]);
  });

  test('of a checkpoint is not held back while the runtime may have stopped the target', async () => {
    const { paced, add, paid, forgiven } = pace('checkpoint');
    paced.dumping(true);
    await add(5);
    expect(paid).toEqual([]);
    expect(forgiven()).toBe(0);
    paced.dumping(false);
    // What the dump cost is not made up for by what comes after it.
    expect(forgiven()).toBe(1);
    await add(6);
    expect(paid).toEqual([0]);
  });
});
