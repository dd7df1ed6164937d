import { rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Execute } from '../../agent/capture/captures.ts';
import { ExhibitError } from '../../evidence/error.ts';
import { endsAtOnce, eventually, REQUEST, startFolderLab } from '../lab/request-folder.ts';

/** An agent that dies between a request and its answer. */

/** Until it is told to stop. */
const hangs: Execute = (_captureId, _request, { signal }) =>
  new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(new Error('stopped'))));

describe('an agent that is killed', () => {
  test('after the file came and before the answer, captures nothing twice and loses nothing', async () => {
    await using first = await startFolderLab({ execute: hangs });
    first.put('web.json', REQUEST);
    await eventually(() => expect(first.begun).toHaveLength(1));
    // Nothing of it was noted: not in the journal, and not beside the file.
    expect(first.answer('web.json')).toBeUndefined();
    const second = await startFolderLab({ root: path.dirname(first.folder) });
    try {
      await eventually(() => expect(second.answer('web.json')?.state).toBe('complete'));
      expect(second.begun.map(({ captureId }) => captureId)).toEqual(first.begun.map(({ captureId }) => captureId));
    } finally {
      await second.captures.drain(0);
      await second.trigger[Symbol.asyncDispose]();
    }
    rmSync(path.join(first.folder, 'web.json'));
  }, 30_000);

  test('after the journal knew and before the answer was there, answers from the journal', async () => {
    await using first = await startFolderLab();
    first.put('web.json', REQUEST);
    await eventually(() => expect(first.answer('web.json')?.state).toBe('complete'));
    rmSync(path.join(first.folder, 'web.json.answer.json'));
    await using second = await first.again();
    await eventually(() => expect(second.answer('web.json')?.state).toBe('complete'));
    expect(second.begun).toEqual([]);
    expect(second.answer('web.json')?.captureId).toBe(first.begun[0]?.captureId);
  });

  test('after its answer said accepted, and whose journal is gone, says that it is lost and begins nothing', async () => {
    await using first = await startFolderLab();
    first.put('web.json', REQUEST);
    await eventually(() => expect(first.answer('web.json')?.state).toBe('complete'));
    const file = path.join(first.folder, 'web.json.answer.json');
    await first.captures.drain(0);
    writeFileSync(file, JSON.stringify({ ...first.answer('web.json'), state: 'accepted' }));
    rmSync(path.join(first.folder, '..', 'state'), { recursive: true });
    await using second = await first.again();
    await eventually(() => expect(second.answer('web.json')?.state).toBe('lost'));
    expect(second.begun).toEqual([]);
  });

  test('whose first attempt left a bundle that no journal knows, captures under another id', async () => {
    const taken = new Set<string>();
    await using lab = await startFolderLab({
      execute: async (captureId, request, hooks) => {
        if (taken.size === 0) {
          taken.add(captureId);
          throw new ExhibitError('sink-exists', 'request.json exists already');
        }
        return await endsAtOnce(captureId, request, hooks);
      },
    });
    lab.put('web.json', REQUEST);
    await eventually(() => expect(lab.answer('web.json')?.state).toBe('complete'));
    expect(new Set(lab.begun.map(({ captureId }) => captureId)).size).toBe(2);
  });

  test('leaves what it did not take to the next one, and what is answered alone', async () => {
    await using first = await startFolderLab();
    for (const name of ['a', 'b', 'c']) first.put(`${name}.json`, REQUEST);
    await eventually(() => expect(first.answer('c.json')?.state).toBe('complete'));
    await first.captures.drain(0);
    first.put('d.json', REQUEST);
    await using second = await first.again();
    await eventually(() => expect(second.answer('d.json')?.state).toBe('complete'));
    await second.trigger.settled();
    expect(second.begun.map(({ request }) => request.requester.identity.split(', ')[1])).toEqual(['d.json']);
  });
});
