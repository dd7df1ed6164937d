import { appendFileSync, closeSync, mkdtempSync, openSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { readWhole, wholeRoom } from '../../../agent/host/regular-file.ts';
import { statOf } from '../../../agent/host/stat.ts';

let folder: string;
let file: string;
let fd: number;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-regular-'));
  file = path.join(folder, 'file');
  writeFileSync(file, 'before');
  fd = openSync(file, 'r');
});
afterEach(() => {
  closeSync(fd);
  rmSync(folder, { recursive: true });
});

/** Calls back after each reading, before the file is looked at again. */
function roomWith(afterReading: () => void): Buffer {
  const room = wholeRoom();
  const { subarray } = room;
  room.subarray = (...range) => {
    afterReading();
    return subarray.apply(room, range);
  };
  return room;
}

describe('a small file', () => {
  test('that stands still is read once', () => {
    let readings = 0;
    const room = roomWith(() => {
      readings += 1;
    });
    const { content, outcome } = readWhole(fd, statOf(fd), room);
    expect(content.toString()).toBe('before');
    expect(outcome).toEqual({ bytes: 6, changed: false, failure: undefined });
    expect(readings).toBe(1);
  });

  test('that changed after it was looked at is read again, as it is then', () => {
    const before = statOf(fd);
    writeFileSync(file, 'longer than before');
    const { content, outcome } = readWhole(fd, before, wholeRoom());
    expect(content.toString()).toBe('longer than before');
    expect(outcome.changed).toBe(false);
  });

  test('that was edited with its size and modification time put back is read again', () => {
    const before = statOf(fd);
    let edits = 0;
    const room = roomWith(() => {
      edits += 1;
      if (edits > 1) return;
      writeFileSync(file, 'edited');
      utimesSync(file, Number(before.mtimeNs / 1_000_000_000n), Number(before.mtimeNs / 1_000_000_000n));
    });
    const { content, outcome } = readWhole(fd, before, room);
    expect(content.toString()).toBe('edited');
    expect(outcome.changed).toBe(false);
    expect(edits).toBe(2);
  });

  test('that never stands still is given up after three readings, and marked', () => {
    let readings = 0;
    const room = roomWith(() => {
      readings += 1;
      appendFileSync(file, String(readings));
    });
    const { content, outcome } = readWhole(fd, statOf(fd), room);
    expect(readings).toBe(3);
    expect(content.toString()).toBe('before12');
    expect(outcome).toMatchObject({ bytes: 8, changed: true });
  });
});
