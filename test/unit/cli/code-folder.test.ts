import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { codeFolder } from '../../../cli/code-folder.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'exhibit-code-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const beside = (name: string) => ['containers', '--socket', path.join(folder, name)];

describe('the folder of compiled code', () => {
  test('is the one beside the socket, where the agent made it', () => {
    mkdirSync(path.join(folder, 'code'), { mode: 0o700 });
    expect(codeFolder(beside('exhibit.sock'), {})).toBe(path.join(folder, 'code'));
    expect(codeFolder([], { EXHIBIT_SOCKET: path.join(folder, 'exhibit.sock') })).toBe(path.join(folder, 'code'));
  });

  test('is not made by a command', () => {
    expect(codeFolder(beside('exhibit.sock'), {})).toBeUndefined();
  });

  test.each(['code', '.'])('is left alone where others may write to %s', (name) => {
    mkdirSync(path.join(folder, 'code'), { mode: 0o700 });
    chmodSync(path.join(folder, name), 0o720);
    expect(codeFolder(beside('exhibit.sock'), {})).toBeUndefined();
  });

  test('is never a link', () => {
    mkdirSync(path.join(folder, 'elsewhere'), { mode: 0o700 });
    symlinkSync(path.join(folder, 'elsewhere'), path.join(folder, 'code'));
    expect(codeFolder(beside('exhibit.sock'), {})).toBeUndefined();
  });
});
