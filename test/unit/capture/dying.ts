import type { Vault } from '../../../agent/sink/vault.ts';

/** What stands still is kept, or its open files would be closed at some moment of the garbage collector's. */
const stuck: unknown[] = [];

/** A vault that stands still for ever before or after the record of that number: the last thing that the agent does. */
export function dyingAt(record: number, when: 'before' | 'after', died: () => void): (vault: Vault) => Vault {
  let appended = 0;
  // One at a time: nothing is under way any more when it dies, as the kernel would see to.
  let last: Promise<unknown> = Promise.resolve();
  const alive = <T>(step: () => Promise<T>): Promise<T> => {
    const mine = last.then(step);
    last = mine.catch(() => undefined);
    return mine;
  };
  const forEver = () => {
    died();
    return new Promise<never>((resolve) => stuck.push(resolve));
  };
  return (vault) => ({
    folder: vault.folder,
    inMemory: vault.inMemory,
    usedBytes: vault.usedBytes,
    write: (name, bytes) => alive(() => vault.write(name, bytes)),
    read: (name) => alive(() => vault.read(name)),
    records: (name) => alive(() => vault.records(name)),
    list: (below) => alive(() => vault.list(below)),
    remove: (name) => alive(() => vault.remove(name)),
    append: (name, entry) =>
      alive(async () => {
        appended += 1;
        if (appended === record && when === 'before') return forEver();
        const last = appended === record;
        await vault.append(name, entry);
        if (last) return forEver();
      }),
  });
}
