import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { DirectoryPool, type Node, openNode } from '../../../agent/host/directory.ts';
import { type NamesAhead, ReadAhead } from '../../../agent/host/read-ahead.ts';
import { readWhole, wholeRoom } from '../../../agent/host/regular-file.ts';
import { walk } from '../../../agent/host/walk.ts';
import { readXattrs } from '../../../agent/host/xattr.ts';

let root = '';
beforeEach(() => {
  root = mkdtempSync(path.join(tmpdir(), 'exhibit-ahead-'));
});
afterEach(() => {
  rmSync(root, { recursive: true });
});

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** All that a walk gives, as text; `read` counts what was read ahead. */
async function walked(ahead: ReadAhead | undefined, limit?: number): Promise<{ lines: string[]; read: number }> {
  using pool = new DirectoryPool(limit);
  const room = wholeRoom();
  const lines: string[] = [];
  let read = 0;
  for await (const event of walk(pool.root(root), { signal: new AbortController().signal, ...(ahead && { ahead }) })) {
    if (event.kind !== 'found') {
      lines.push(`${event.kind} ${event.path.toString('latin1')}`);
      continue;
    }
    const { node } = event;
    if (node.ahead !== undefined) read += 1;
    const xattrs = [...readXattrs(node).named].map(([name, value]) => `${name}=${value.toString('hex')}`);
    const digest = node.kind === 'file' ? digestOf(node, room) : '';
    const stat = Object.values(node.stat).join(' ');
    lines.push(`${event.path.toString('latin1')} ${node.kind} ${stat} ${xattrs.join(' ')} ${digest}`);
  }
  return { lines, read };
}

function digestOf(node: Node, room: Buffer): string {
  if (node.ahead === undefined) return sha256(readWhole(node.open().fd, node.stat, room).content);
  expect(sha256(node.ahead.content)).toBe(node.ahead.sha256);
  return node.ahead.sha256;
}

/** Until the thread has started and read something. */
async function walkedAhead(ahead: ReadAhead): Promise<{ lines: string[]; read: number }> {
  for (;;) {
    const got = await walked(ahead);
    if (got.read > 0) return got;
    await setImmediate();
  }
}

function makeTree(): void {
  const fifos: string[] = [];
  for (let folder = 0; folder < 20; folder += 1) {
    const at = path.join(root, `n${folder}`, 'deep');
    mkdirSync(at, { recursive: true });
    for (let file = 0; file < 50; file += 1) writeFileSync(path.join(at, `f${file}`), 'x'.repeat(file * 100));
    for (let file = 0; file < 9; file += 1) writeFileSync(path.join(at, '..', `${file}`), `${folder}`);
    writeFileSync(path.join(at, 'large'), Buffer.alloc(100_000, 1));
    symlinkSync('f1', path.join(at, 'g-link'));
    fifos.push(path.join(at, 'f7-fifo'));
    mkdirSync(path.join(at, 'f9-folder'));
  }
  execFileSync('mkfifo', fifos);
  writeFileSync(Buffer.concat([Buffer.from(`${root}/n1/deep/`), Buffer.from([0xff, 0x0a, 0x25])]), 'odd');
}

describe('a walk that is read ahead of', () => {
  test('gives the same as one that is not, attributes and content and all times', async () => {
    makeTree();
    execFileSync('setfattr', ['-n', 'user.one', '-v', 'value', path.join(root, 'n3/deep/f4')]);
    execFileSync('setfattr', ['-n', 'user.two', '-v', '', path.join(root, 'n3/deep/f4')]);
    await using ahead = new ReadAhead(0);
    const { lines } = await walked(undefined);
    const got = await walkedAhead(ahead);
    expect(got.lines).toEqual(lines);
  });

  test('does without the thread before so many names were asked for', async () => {
    makeTree();
    await using ahead = new ReadAhead(1_000_000);
    expect((await walked(ahead)).read).toBe(0);
  });

  test('reads nothing twice, and nothing of another directory, when it is left in the middle', async () => {
    makeTree();
    await using ahead = new ReadAhead(0);
    await walkedAhead(ahead);
    using pool = new DirectoryPool();
    const at = (name: string): NamesAhead => {
      const directory = pool.root(path.join(root, name, 'deep'));
      return { directory, names: readdirSync(path.join(root, name, 'deep')).sort(), directories: new Set() };
    };
    const folders = ['n1', 'n2', 'n1', 'n3'].map(at);
    for (const { directory, names, directories } of folders) {
      const of = { directory, names, directories };
      for (const [index, name] of names.slice(0, 30).entries()) {
        using node = ahead.take(of, index);
        if (node?.ahead === undefined) continue;
        using other = openNode(directory, Buffer.from(name));
        expect(node.stat).toEqual(other.stat);
        expect(node.ahead.content.length).toBe(Number(other.stat.size));
      }
    }
  });

  test('leaves neither thread nor descriptors behind, also when it ends early', async () => {
    makeTree();
    const descriptors = (): number => readdirSync('/proc/self/fd').length;
    const threads = (): number =>
      readdirSync('/proc/self/task').filter((task) =>
        readFileSync(`/proc/self/task/${task}/comm`, 'latin1').startsWith('Worker'),
      ).length;
    const before = { descriptors: descriptors(), threads: threads() };
    {
      await using ahead = new ReadAhead(0);
      await walkedAhead(ahead);
      using pool = new DirectoryPool();
      for await (const event of walk(pool.root(root), { signal: new AbortController().signal, ahead })) {
        if (event.kind === 'found' && event.node.ahead !== undefined) break;
      }
    }
    expect({ descriptors: descriptors(), threads: threads() }).toEqual(before);
  });

  test('has whole files while somebody cuts, grows, swaps and removes them', async () => {
    const script = `import os, random, sys
os.chdir('${root}')
print('ready', flush=True)
while True:
    name = 'f%d' % random.randrange(300)
    try:
        what = random.randrange(5)
        if what == 0: open(name, 'w').write('a' * random.randrange(20000))
        elif what == 1: os.truncate(name, random.randrange(20000))
        elif what == 2: os.remove(name)
        elif what == 3: os.symlink('/etc/passwd', name)
        else: os.rename(name, 'f%d' % random.randrange(300))
    except OSError: pass`;
    const busy = spawn('python3', ['-c', script], { stdio: ['ignore', 'pipe', 'inherit'] });
    try {
      await once(busy.stdout, 'data');
      await using ahead = new ReadAhead(0);
      await walkedAhead(ahead);
      let read = 0;
      for (let round = 0; round < 30; round += 1) {
        using pool = new DirectoryPool();
        for await (const event of walk(pool.root(root), { signal: new AbortController().signal, ahead })) {
          if (event.kind !== 'found' || event.node.ahead === undefined) continue;
          read += 1;
          expect(event.node.kind).toBe('file');
          expect(event.node.ahead.content.length).toBe(Number(event.node.stat.size));
          expect(sha256(event.node.ahead.content)).toBe(event.node.ahead.sha256);
        }
      }
      expect(read).toBeGreaterThan(0);
    } finally {
      busy.kill('SIGKILL');
      await once(busy, 'close');
    }
  }, 60_000);
});
