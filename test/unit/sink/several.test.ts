import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openLocalSink } from '../../../agent/sink/local.ts';
import { openSeveral, pickSinks } from '../../../agent/sink/several.ts';
import type { OpenOptions, Sink, SinkObject } from '../../../agent/sink/sink.ts';
import { type ErrorCode, ExhibitError, explain, isExhibitError } from '../../../evidence/error.ts';

const OPTIONS: OpenOptions = { contentType: 'application/octet-stream', signal: new AbortController().signal };
const KEY = 'c/n/id/logs.tar.zst';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'exhibit-several-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const local = (name: string) => ({ name, sink: openLocalSink({ url: pathToFileURL(path.join(folder, name)).href }) });
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const files = async (name: string) =>
  (await readdir(path.join(folder, name), { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile())
    .map((entry) => entry.name);

/** A sink whose steps a test writes; what is not given works. `log` tells what was asked of it, in order. */
function faulty(name: string, object: Partial<SinkObject> & { open?: () => Promise<void> } = {}, log: string[] = []) {
  const sink = {
    open: async () => {
      log.push('open');
      await object.open?.();
      return {
        write: async (chunk: Uint8Array) => {
          log.push('write');
          await object.write?.(chunk);
        },
        commit: async () => {
          log.push('commit');
          return (await object.commit?.()) ?? 'stored';
        },
        [Symbol.asyncDispose]: async () => {
          log.push('dispose');
          await object[Symbol.asyncDispose]?.();
        },
      };
    },
  } as unknown as Sink;
  return { name, sink, log };
}

const failing =
  (code: ErrorCode, words: string = code) =>
  async (): Promise<never> => {
    throw new ExhibitError(code, words);
  };
const withCode = (code: ErrorCode) => (error: unknown) => isExhibitError(error, code);

describe('an object in several sinks', () => {
  test('is the same bytes in each of them', async () => {
    const chunks = [10, 300_000, 1_200_000, 0, 1].map((size) => randomBytes(size));
    const digest = sha256(Buffer.concat(chunks));
    await using object = await openSeveral([local('a'), local('b'), local('c')], KEY, OPTIONS);
    for (const chunk of chunks) {
      await object.write(chunk);
      chunk.fill(0x55);
    }
    expect([...(await object.commit())]).toEqual(['a', 'b', 'c'].map((name) => [name, { kind: 'stored' }]));
    for (const name of ['a', 'b', 'c']) expect(sha256(await readFile(path.join(folder, name, KEY)))).toBe(digest);
  });

  test('leaves nothing in any of them without a commit', async () => {
    {
      await using object = await openSeveral([local('a'), local('b')], KEY, OPTIONS);
      await object.write(randomBytes(400_000));
    }
    expect([await files('a'), await files('b')]).toEqual([[], []]);
  });

  test('goes on in the others when a write fails in one, which is told at the commit', async () => {
    const bad = faulty('bad', { write: failing('sink-failed', 'the disk is gone') });
    await using object = await openSeveral([local('a'), bad, local('b')], KEY, OPTIONS);
    const bytes = randomBytes(70_000);
    await object.write(bytes.subarray(0, 30_000));
    await object.write(bytes.subarray(30_000));
    expect(bad.log).toEqual(['open', 'write', 'dispose']);
    const outcomes = await object.commit();
    expect([...outcomes.keys()]).toEqual(['a', 'bad', 'b']);
    expect(outcomes.get('bad')).toMatchObject({ kind: 'failed', error: { code: 'sink-failed' } });
    for (const name of ['a', 'b']) {
      expect(outcomes.get(name)).toEqual({ kind: 'stored' });
      expect(sha256(await readFile(path.join(folder, name, KEY)))).toBe(sha256(bytes));
    }
  });

  test('goes on in the others when it cannot be opened in one', async () => {
    const bad = faulty('bad', { open: failing('sink-exists') });
    await using object = await openSeveral([bad, local('a')], KEY, OPTIONS);
    await object.write(Buffer.from('x'));
    const outcomes = await object.commit();
    expect(outcomes.get('bad')).toMatchObject({ kind: 'failed', error: { code: 'sink-exists' } });
    expect(outcomes.get('a')).toEqual({ kind: 'stored' });
    expect(bad.log).toEqual(['open']);
  });

  test('may wait in one, fail in another and be stored in the third', async () => {
    const sinks = [
      faulty('one', { commit: async () => 'waiting' }),
      faulty('two', { commit: failing('sink-failed') }),
      faulty('three'),
    ];
    await using object = await openSeveral(sinks, KEY, OPTIONS);
    const outcomes = await object.commit();
    expect([...outcomes.values()].map((outcome) => outcome.kind)).toEqual(['waiting', 'failed', 'stored']);
    expect(sinks[1]?.log).toEqual(['open', 'commit', 'dispose']);
  });

  test('is taken at the pace of the slowest, all at once', async () => {
    const slow = Promise.withResolvers<void>();
    const sinks = [faulty('slow', { write: () => slow.promise }), faulty('quick')];
    await using object = await openSeveral(sinks, KEY, OPTIONS);
    let resolved = false;
    const written = object.write(Buffer.from('x')).then(() => {
      resolved = true;
    });
    await new Promise((resolve) => setImmediate(resolve));
    expect(sinks.map(({ log }) => log)).toEqual([
      ['open', 'write'],
      ['open', 'write'],
    ]);
    expect(resolved).toBe(false);
    slow.resolve();
    await written;
  });

  test('lends a chunk until the last sink has ended, though another has failed', async () => {
    const slow = Promise.withResolvers<void>();
    const sinks = [faulty('bad', { write: failing('sink-failed') }), faulty('slow', { write: () => slow.promise })];
    await using object = await openSeveral(sinks, KEY, OPTIONS);
    let resolved = false;
    const written = object.write(Buffer.from('x')).then(() => {
      resolved = true;
    });
    await new Promise((resolve) => setImmediate(resolve));
    expect(resolved).toBe(false);
    slow.resolve();
    await written;
  });

  test('does not keep the others waiting while one takes back what it began', async () => {
    const abort = Promise.withResolvers<void>();
    const bad = faulty('bad', { write: failing('sink-failed'), [Symbol.asyncDispose]: () => abort.promise });
    await using object = await openSeveral([bad, local('a')], KEY, OPTIONS);
    await object.write(Buffer.from('x'));
    await object.write(Buffer.from('y'));
    abort.reject(new Error('the server is away'));
    const outcome = (await object.commit()).get('bad');
    expect(outcome?.kind === 'failed' && explain(outcome.error)).toMatch(
      /^sink-failed; and what was begun could not be taken back: the server is away/,
    );
    expect(await readFile(path.join(folder, 'a', KEY), 'utf8')).toBe('xy');
  });

  test('fails with every reason when no sink is left, and stays failed', async () => {
    const sinks = [
      faulty('one', { write: failing('sink-failed', 'no route') }),
      faulty('two', { write: failing('sink-exists', 'it is there') }),
    ];
    await using object = await openSeveral(sinks, KEY, OPTIONS);
    const words = `no sink has ${KEY}; one: no route; two: it is there`;
    await expect(object.write(Buffer.from('x'))).rejects.toThrow(words);
    await expect(object.write(Buffer.from('x'))).rejects.toThrow(words);
    await expect(object.commit()).rejects.toThrow(words);
    expect(sinks.flatMap(({ log }) => log)).toEqual(['open', 'write', 'dispose', 'open', 'write', 'dispose']);
  });

  test.each<[ErrorCode[], ErrorCode]>([
    [['sink-exists', 'sink-failed', 'spool-full'], 'spool-full'],
    [['sink-exists', 'sink-failed'], 'sink-failed'],
    [['sink-exists', 'sink-exists'], 'sink-exists'],
    [['spool-full', 'cancelled'], 'cancelled'],
  ])('fails of %j as %s, in its opening, a write and the commit', async (codes, expected) => {
    const named = (at: 'open' | 'write' | 'commit') =>
      codes.map((code, index) => faulty(`s${index}`, { [at]: failing(code) }));
    await expect(openSeveral(named('open'), KEY, OPTIONS)).rejects.toSatisfy(withCode(expected));
    await using written = await openSeveral(named('write'), KEY, OPTIONS);
    await expect(written.write(Buffer.from('x'))).rejects.toSatisfy(withCode(expected));
    await using committed = await openSeveral(named('commit'), KEY, OPTIONS);
    await expect(committed.commit()).rejects.toSatisfy(withCode(expected));
  });

  test('is cancelled in all of them and leaves nothing', async () => {
    const stop = new AbortController();
    {
      await using object = await openSeveral([local('a'), local('b')], KEY, { ...OPTIONS, signal: stop.signal });
      await object.write(Buffer.from('x'));
      stop.abort(new Error('no longer wanted'));
      await expect(object.write(Buffer.from('y'))).rejects.toSatisfy(withCode('cancelled'));
    }
    expect([await files('a'), await files('b')]).toEqual([[], []]);
  });

  test('tells a fault that is not of a sink as our own', async () => {
    const bad = faulty('bad', { write: () => Promise.reject(new TypeError('x is not a function')) });
    await using object = await openSeveral([bad, faulty('a')], KEY, OPTIONS);
    await object.write(Buffer.from('x'));
    expect((await object.commit()).get('bad')).toMatchObject({ kind: 'failed', error: { code: 'internal' } });
  });
});

describe('the sinks of a request', () => {
  const sinks = [faulty('west'), faulty('here'), faulty('east')];

  test('are all of them where it names none', () => {
    expect(pickSinks(sinks, undefined)).toEqual(sinks);
  });

  test('are those it names, in its order, each once', () => {
    expect(pickSinks(sinks, ['east', 'west', 'east'])).toEqual([sinks[2], sinks[0]]);
  });

  test('are none that the agent does not have, whatever the name', () => {
    expect(() => pickSinks(sinks, ['east', 'constructor', 'x'.repeat(10_000)])).toThrow(
      `There is no sink "constructor", "${'x'.repeat(60)}" in the agent's configuration; choose among west, here, east`,
    );
  });
});

describe('an object in one sink', () => {
  test('is that sink’s own, with its own errors', async () => {
    const error = new ExhibitError('sink-failed', 'no route');
    const one = faulty('one', { write: () => Promise.reject(error) });
    await using object = await openSeveral([one], KEY, OPTIONS);
    await expect(object.write(Buffer.from('x'))).rejects.toBe(error);
  });

  test('is told by its name', async () => {
    await using object = await openSeveral([faulty('one', { commit: async () => 'waiting' })], KEY, OPTIONS);
    expect([...(await object.commit())]).toEqual([['one', { kind: 'waiting' }]]);
  });
});
