import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { readBpf } from '../../agent/host/bpf-read.ts';
import { answerNode } from '../../agent/host/node-serve.ts';

let root: string;

beforeEach(() => {
  root = mkdtempSync(`${tmpdir()}/exhibit-hostile-node-`);
  mkdirSync(`${root}/mount`);
  writeFileSync(`${root}/secret`, 'outside');
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const read = (name: string) => {
  const ask = { about: 'files', names: [{ sys: `/mount/${name}` }], limitBytes: 1000 } as const;
  const [answer] = [...answerNode({ procRoot: '/proc', hostRoot: root }, ask)];
  return answer?.about === 'file' ? answer.reading : undefined;
};

describe('a place that the mount table of the node names', () => {
  test('is read where it holds a file', () => {
    writeFileSync(`${root}/mount/release_agent`, '/bin/evil\n');
    expect(read('release_agent')).toMatchObject({ kind: 'read', bytes: Buffer.from('/bin/evil\n') });
  });

  test('is not followed where it holds a link', () => {
    symlinkSync(`${root}/secret`, `${root}/mount/release_agent`);
    expect(read('release_agent')).toEqual({ kind: 'failed', errno: 'EINVAL' });
  });

  test('does not block where it holds a FIFO, and opens no device', () => {
    execFileSync('mkfifo', [`${root}/mount/release_agent`]);
    expect(read('release_agent')).toEqual({ kind: 'failed', errno: 'EINVAL' });
  });

  test('is not walked for pins when it is no file system of type bpf', () => {
    writeFileSync(`${root}/mount/program`, 'not one');
    symlinkSync('/', `${root}/link`);
    const pins = [...readBpf([], [`${root}/mount`, `${root}/link`])].filter(
      ({ kind }) => kind === 'pin' || kind === 'cut',
    );
    expect(pins).toEqual([]);
  });

  test('is cut where its file is longer than the limit', () => {
    writeFileSync(`${root}/mount/enabled_functions`, 'x'.repeat(1001));
    expect(read('enabled_functions')).toMatchObject({ kind: 'read', truncated: true });
  });
});
