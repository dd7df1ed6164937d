import {
  closeSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { DirectoryPool, openForReading, openNode } from '../../../agent/host/directory.ts';
import { nameBytes, splitBatch } from '../../../agent/host/listing.ts';
import { type WalkEvent, type WalkOptions, walk } from '../../../agent/host/walk.ts';

let root = '';
beforeEach(() => {
  root = mkdtempSync(path.join(tmpdir(), 'exhibit-walk-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const signal = new AbortController().signal;

async function events(options: Partial<WalkOptions> = {}, onEvent?: (event: WalkEvent) => void): Promise<string[]> {
  using pool = new DirectoryPool();
  const seen: string[] = [];
  for await (const event of walk(pool.root(root), { signal, ...options })) {
    onEvent?.(event);
    if (event.kind !== 'listed') seen.push(`${event.kind} ${event.path.toString('latin1')}`);
  }
  return seen;
}

describe('a walk', () => {
  test('gives parents before children, names bytewise, and each directory’s end', async () => {
    mkdirSync(path.join(root, 'b'));
    writeFileSync(path.join(root, 'b/z'), '');
    writeFileSync(path.join(root, 'b/a'), '');
    writeFileSync(path.join(root, 'B'), '');
    writeFileSync(path.join(root, 'ä'), '');
    writeFileSync(path.join(root, 'c'), '');
    const last = Buffer.from('ä').toString('latin1');
    expect(await events()).toEqual([
      'found B',
      'found b',
      'found b/a',
      'found b/z',
      'left b',
      'found c',
      `found ${last}`,
    ]);
  });

  test('gives first what the caller wants first', async () => {
    for (const name of ['a', 'm', 'z']) writeFileSync(path.join(root, name), '');
    const seen = await events({ first: () => (_, name) => name.toString() === 'z' });
    expect(seen).toEqual(['found z', 'found a', 'found m']);
  });

  test('does not enter what the caller skips', async () => {
    mkdirSync(path.join(root, 'd/e'), { recursive: true });
    const seen = await events({}, (event) => {
      if (event.kind === 'found') event.skip();
    });
    expect(seen).toEqual(['found d']);
  });

  test('closes every descriptor', async () => {
    mkdirSync(path.join(root, 'a/b/c'), { recursive: true });
    writeFileSync(path.join(root, 'a/b/f'), '');
    symlinkSync('nowhere', path.join(root, 'a/l'));
    const probe = (): number => {
      const fd = openSync('/dev/null', 'r');
      closeSync(fd);
      return fd;
    };
    const before = probe();
    await events();
    expect(probe()).toBe(before);
  });

  test('leaves the access time of directories and files alone', async () => {
    mkdirSync(path.join(root, 'd'));
    writeFileSync(path.join(root, 'd/f'), 'x');
    utimesSync(path.join(root, 'd'), 1, 2);
    await events();
    expect(lstatSync(path.join(root, 'd')).atimeMs).toBe(1000);
  });

  test('says when a path is too long to go on, and gives what lies beside it', async () => {
    mkdirSync(path.join(root, 'a/bb/c'), { recursive: true });
    writeFileSync(path.join(root, 'z'), '');
    const seen = await events({ limits: { pathBytes: 3 } });
    expect(seen).toEqual(['found a', 'found a/bb', 'missed a/bb', 'left a/bb', 'left a', 'found z']);
  });

  test('says how many names it could not hold', async () => {
    for (let index = 0; index < 20; index += 1) writeFileSync(path.join(root, `f${index}`), '');
    const missed: WalkEvent[] = [];
    await events(
      { limits: { heldBytes: 5 * nameBytes('f19') } },
      (event) => event.kind === 'missed' && missed.push(event),
    );
    expect(missed).toMatchObject([{ what: 'entries', why: expect.stringContaining('15 or more entries') }]);
  });

  test('goes on when an entry vanishes between the listing and the look', async () => {
    for (const name of ['a', 'b', 'c']) writeFileSync(path.join(root, name), '');
    const seen = await events({}, (event) => event.kind === 'listed' && rmSync(path.join(root, 'b')));
    expect(seen).toEqual(['found a', 'missed b', 'found c']);
  });

  test('stops when it is told to', async () => {
    for (const name of ['a', 'b', 'c']) writeFileSync(path.join(root, name), '');
    const controller = new AbortController();
    const walking = events({ signal: controller.signal }, (event) => event.kind === 'found' && controller.abort());
    await expect(walking).rejects.toThrow();
  });
});

describe('a pool of directories', () => {
  test('opens again what it had to close, and refuses one that was swapped meanwhile', () => {
    for (const name of ['a', 'b', 'c']) mkdirSync(path.join(root, name, 'in'), { recursive: true });
    using pool = new DirectoryPool(2);
    const top = pool.root(root);
    const open = (name: string) => {
      using node = openNode(top, Buffer.from(name));
      return top.child(Buffer.from(name), node);
    };
    const [a, b, c] = [open('a'), open('b'), open('c')];
    for (const one of [a, b, c]) expect(openNode(one, Buffer.from('in'))[Symbol.dispose]()).toBeUndefined();
    expect(existsSync(`/proc/self/fd/${a.fd}/in`)).toBe(true);
    void [b.fd, c.fd];
    renameSync(path.join(root, 'a'), path.join(root, 'elsewhere'));
    mkdirSync(path.join(root, 'a/in'), { recursive: true });
    expect(() => a.fd).toThrow(/ESTALE/);
  });

  test('never opens for reading what could block or act', () => {
    symlinkSync('/etc/passwd', path.join(root, 'link'));
    using pool = new DirectoryPool();
    using node = openNode(pool.root(root), Buffer.from('link'));
    expect(node.kind).toBe('symlink');
    expect(() => openForReading(node)).toThrow(/EINVAL/);
  });

  test('tells inodes with several names', () => {
    writeFileSync(path.join(root, 'one'), '');
    linkSync(path.join(root, 'one'), path.join(root, 'two'));
    using pool = new DirectoryPool();
    using node = openNode(pool.root(root), Buffer.from('two'));
    expect(node.stat.nlink).toBe(2n);
  });
});

describe('a batch of directory entries', () => {
  const record = (name: Buffer, type: number): Buffer => {
    const bytes = Buffer.alloc((19 + name.length + 1 + 7) & ~7);
    bytes.writeUInt16LE(bytes.length, 16);
    bytes[18] = type;
    name.copy(bytes, 19);
    return bytes;
  };
  const namesIn = (batch: Buffer): string[] => {
    const names: string[] = [];
    splitBatch(batch, () => false, { add: (name) => void names.push(name) });
    return names;
  };
  const name = fc
    .uint8Array({ min: 1, max: 255, minLength: 1, maxLength: 255 })
    .filter((bytes) => !bytes.includes(0x2f))
    .map((bytes) => Buffer.from(bytes));

  test('gives back every name but the two dots', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(name, fc.nat(14))), (entries) => {
        const batch = Buffer.concat(entries.map(([bytes, type]) => record(bytes, type)));
        const expected = entries
          .map(([bytes]) => bytes.toString('latin1'))
          .filter((text) => text !== '.' && text !== '..');
        expect(namesIn(batch)).toEqual(expected);
      }),
    );
  });

  test('ends at a record that cannot be', () => {
    expect(namesIn(Buffer.alloc(64))).toEqual([]);
  });
});
