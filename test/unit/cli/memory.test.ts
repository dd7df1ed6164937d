import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { parseNumber, parsePid } from '../../../cli/memory.ts';
import { memoryMembers, PAGE, pages, type TestProcess, writeMemory } from '../evidence/memory-bundle.ts';
import { requireProgram, run as runProgram } from '../evidence/programs.ts';
import { exhibit, shell, TEST_TIMEOUT_MS } from './run.ts';
import { serveAsS3 } from './s3-server.ts';
import { type SomeBundle, someBundle } from './some-bundle.ts';

vi.setConfig({ testTimeout: TEST_TIMEOUT_MS });

const HEAP = 0x5555_0000_0000n;
const SHM = 0x7f10_0000_0000n;
const BIG = 0x7f20_0000_0000n;

const shop: TestProcess = {
  pid: 4711,
  regions: [
    {
      start: HEAP,
      pages: 0x4000,
      kind: 'heap',
      path: '[heap]',
      captured: [
        [0, pages(1, 'secret token=hunter2\tend', 0x20, 0)],
        [3, pages(1, 'split', PAGE - 5, 1)],
      ],
      precopied: [[4, pages(1, ' over two members', 0, 1)]],
      gaps: [{ page: 2, pages: 1, why: 'the page was\x1b[2J gone' }],
    },
    {
      start: SHM,
      pages: 1,
      permissions: 'rw-s',
      kind: 'shared-memory',
      path: '/dev/shm/ring\u202e',
      shared: [{ page: 0, number: 1, from: 0, pages: 1 }],
    },
    { start: BIG, pages: 2048, path: '/srv/data', kind: 'file-private', captured: [[0, pages(2048)]] },
  ],
};
const worker: TestProcess = {
  pid: 4712,
  regions: [
    {
      start: 0x1000_0000n,
      pages: 1,
      permissions: 'r--s',
      kind: 'shared-memory',
      shared: [{ page: 0, number: 1, from: 0, pages: 1 }],
    },
  ],
};
const shared = new Map([[1, pages(1, Buffer.from('shared wide words', 'utf16le'), 11)]]);

let made: SomeBundle;
let bundle: string;
beforeAll(async () => {
  const members = await memoryMembers([shop, worker], shared);
  made = await someBundle({ fill: (writer) => writeMemory(writer, members), frameBytes: 16 * 1024 });
  bundle = made.bundle;
});
afterAll(async () => {
  await made[Symbol.asyncDispose]();
});

/** The statistics on stderr, as numbers. */
function statsOf(stderr: string): { framesRead: number; frames: number; bytesRead: number; storedBytes: number } {
  return JSON.parse(stderr).stats;
}

describe('exhibit mem', () => {
  test('shows address, hex and text, marks what is missing, and its exit code tells', async () => {
    const ran = await exhibit(['mem', bundle, '4711', '0x555500000010', '0x2ff8']);
    expect(ran.stdout.toString()).toBe(
      [
        '0000555500000010  00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................',
        '0000555500000020  73 65 63 72 65 74 20 74 6f 6b 65 6e 3d 68 75 6e  secret token=hun',
        '0000555500000030  74 65 72 32 09 65 6e 64 00 00 00 00 00 00 00 00  ter2.end........',
        '0000555500000040  00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................',
        '*',
        '0000555500002000  -- not captured: the page was\\x1b[2J gone (up to 0x555500003000)',
        '0000555500003000  01 01 01 01 01 01 01 01                          ........',
        '',
      ].join('\n'),
    );
    expect(ran).toMatchObject({ code: 1, stderr: '' });
  });

  test('makes short work of a gigabyte of zeros', async () => {
    const ran = await exhibit(['mem', bundle, '4711', '0x555500010000', '1MiB']);
    expect(ran.stdout.toString().split('\n').length).toBeLessThan(5);
    expect(ran.code).toBe(0);
  });

  test('gives bytes with --raw: zeros for what is missing, which stderr tells', async () => {
    const ran = await exhibit(['mem', bundle, '4711', `${HEAP}`, '12KiB', '--raw']);
    expect(ran.stdout).toEqual(Buffer.concat([pages(1, 'secret token=hunter2\tend', 0x20, 0), Buffer.alloc(2 * PAGE)]));
    expect(ran.code).toBe(1);
    expect(ran.stderr).toBe(
      'exhibit: 0x555500002000 to 0x555500003000 was not captured and is written as zeros: the page was\\x1b[2J gone\n',
    );
  });

  test('gives parts with --json', async () => {
    const ran = await exhibit(['mem', bundle, '4711', '0x555500000ffe', '8KiB', '--json']);
    const document = JSON.parse(ran.stdout.toString());
    expect(document).toMatchObject({ pid: 4711, start: '0x555500000ffe', end: '0x555500002ffe' });
    expect(document.mappings).toMatchObject([{ start: '0x555500000000', kind: 'heap', permissions: 'rw-p' }]);
    expect(document.parts).toEqual([
      { kind: 'bytes', start: '0x555500000ffe', end: '0x555500001000', base64: 'AAA=' },
      { kind: 'zeros', start: '0x555500001000', end: '0x555500002000' },
      { kind: 'hole', start: '0x555500002000', end: '0x555500002ffe', why: 'the page was\x1b[2J gone' },
    ]);
  });

  test('reads a few frames for a page, not the archive', async () => {
    const ran = await exhibit([
      'mem',
      bundle,
      '4711',
      `0x${(BIG + 4096n * 1500n).toString(16)}`,
      '4KiB',
      '--stats',
      '--json',
    ]);
    const stats = statsOf(ran.stderr);
    expect(stats.frames).toBeGreaterThan(500);
    expect(stats.framesRead).toBeLessThan(15);
    expect(JSON.parse(ran.stdout.toString()).parts[0].base64).toHaveLength((4 * 4098) / 3);
    const words = await exhibit(['mem', bundle, '4711', `${BIG}`, '1', '--stats']);
    expect(words.stderr).toMatch(/^exhibit: read \d+ of \d{3} frames, [\d.]+ KiB of [\d.]+ KiB, in \d+ requests\n$/);
  });

  test.each([
    [['4713', '0x1000', '1'], 1, 'The bundle has no memory of a process 4713: choose from 4711, 4712.'],
    [
      ['4711', '0x7f0000000000', '4KiB'],
      1,
      'Process 4711 has no mapping at 0x7f0000000000 to 0x7f0000001000: the nearest are before it ' +
        '0x555500000000-0x555504000000 (64 MiB, [heap]) and after it 0x7f1000000000-0x7f1000001000 (4 KiB, /dev/shm/ring\\u{202e}).',
    ],
    [['4711', 'heap', '1'], 2, 'heap is no address: write 0x7f0000001000 or a decimal number, below 2^64.'],
  ])('refuses %j', async (args, code, sentence) => {
    const ran = await exhibit(['mem', bundle, ...args]);
    expect(ran).toMatchObject({ code, stderr: `exhibit: ${sentence}\n`, stdout: Buffer.alloc(0) });
  });
});

test.each([
  ['0x7f00', false, 0x7f00n],
  ['4096', false, 4096n],
  ['0xffffffffffffffff', false, (1n << 64n) - 1n],
  ['4KiB', true, 4096n],
  ['2gib', true, 2n << 30n],
  ['0x10', true, 16n],
  ['4KiB', false, undefined],
  ['0x10000000000000000', false, undefined],
  ['18446744073709551616', true, undefined],
  ['16777216TiB', true, undefined],
  ['4kb', true, undefined],
  ['-1', true, undefined],
  ['', true, undefined],
])('%j (with units: %s) is the number %s', (text, units, value) => {
  if (value !== undefined) expect(parseNumber(text, 'length', units)).toBe(value);
  else expect(() => parseNumber(text, 'length', units)).toThrow(/is no length: write/);
});

test.each(['0', '-1', 'shop', '1e3', '99999999999', ''])('%j is no process id', (text) => {
  expect(() => parsePid(text)).toThrow('is no process id: give a number, for example 4711.');
});

describe('exhibit strings', () => {
  test('lists strings with process, address, mapping; across members, and shared memory once', async () => {
    const ran = await exhibit(['strings', bundle]);
    expect(ran.stdout.toString()).toBe(
      [
        '4711\t0x555500000020\ta\trw-p [heap]\tsecret token=hunter2\\tend',
        '4711\t0x555500003ffb\ta\trw-p [heap]\tsplit over two members',
        '4711 +1\t0x7f100000000b\tw\trw-s /dev/shm/ring\\u{202e}\tshared wide words',
        '',
      ].join('\n'),
    );
    expect(ran).toMatchObject({ code: 0, stderr: '' });
  });

  test('of one process, of one encoding, from a length on, in JSON lines', async () => {
    const all = await exhibit(['strings', bundle, '--json', '--encoding', 'utf16le']);
    expect(JSON.parse(all.stdout.toString())).toEqual({
      ...{
        pid: 4711,
        address: '0x7f100000000b',
        encoding: 'utf16le',
        mapping: '/dev/shm/ring\u202e',
        permissions: 'rw-s',
      },
      ...{ text: 'shared wide words', also: [{ pid: 4712, address: '0x1000000b' }] },
    });
    const one = await exhibit(['strings', bundle, '4712', '--json']);
    expect(JSON.parse(one.stdout.toString())).toMatchObject({ pid: 4712, address: '0x1000000b' });
    expect(await exhibit(['strings', bundle, '--min', '0'])).toMatchObject({ code: 2 });
  });

  test('agrees with strings(1) on a core that exhibit wrote', async (context) => {
    requireProgram(context, 'strings');
    const file = path.join(made.folder, 'judged');
    expect((await exhibit(['core', bundle, '4711', '--output', file])).code).toBe(0);
    const judge = runProgram(['strings', '-a', '-n', '6', file]).stdout.toString();
    const ran = await exhibit(['strings', bundle, '4711', '--json', '--encoding', 'ascii']);
    for (const line of ran.stdout.toString().trim().split('\n')) expect(judge).toContain(JSON.parse(line).text);
  });

  test('ends when its reader has enough', async () => {
    const ran = await shell(`$EXHIBIT strings ${bundle} --min 1 | head -1`);
    expect(ran).toMatchObject({ code: 0, stderr: '' });
  });
});

describe('exhibit core', () => {
  test('writes a file that only its owner reads, and nothing else', async () => {
    const folder = path.join(made.folder, 'cores');
    const ran = await shell(`mkdir ${folder} && cd ${folder} && $EXHIBIT core ${bundle} 4711`);
    expect(ran.stderr).toBe('');
    expect(ran.stdout.toString()).toMatch(
      /^8\.02 MiB in core\.4711, of them 8 KiB from outside its core, 5 segments, sha256 [0-9a-f]{64}\n$/,
    );
    expect(await readdir(folder)).toEqual(['core.4711']);
    expect((await stat(path.join(folder, 'core.4711'))).mode & 0o777).toBe(0o600);
    const again = await shell(`cd ${folder} && $EXHIBIT core ${bundle} 4711`);
    expect(again).toMatchObject({
      code: 2,
      stderr: 'exhibit: core.4711 exists and is not overwritten: remove it or choose another --output.\n',
    });
  });

  test('writes the same to a pipe, and reports in JSON', async () => {
    const file = path.join(made.folder, 'reported');
    const ran = await exhibit(['core', bundle, '4712', '--output', file, '--json']);
    const report = JSON.parse(ran.stdout.toString());
    const piped = await exhibit(['core', bundle, '4712', '--output', '-']);
    expect(piped.stdout).toEqual(await readFile(file));
    expect(report).toMatchObject({ pid: 4712, file, sizeBytes: piped.stdout.length, addedBytes: PAGE, segments: 2 });
  });

  test('leaves nothing behind when the archive breaks in the middle', async () => {
    const members = await memoryMembers([shop, worker], shared);
    await using broken = await someBundle({ fill: (writer) => writeMemory(writer, members), frameBytes: 4096 });
    const object = path.join(broken.bundle, 'memory.tar.zst');
    const bytes = await readFile(object);
    bytes.fill(0xff, bytes.length >> 2, bytes.length >> 1);
    await writeFile(object, bytes);
    const file = path.join(broken.folder, 'core');
    const ran = await exhibit(['core', broken.bundle, '4711', '--output', file]);
    expect(ran).toMatchObject({ code: 1, stderr: expect.stringContaining('a zstd frame does not decompress') });
    expect(await readdir(broken.folder)).toEqual([path.basename(broken.bundle)]);
  });
});

describe('exhibit scan', () => {
  const rules =
    'rule token : secret creds { strings: $t = /token=\\w+/ $w = "wide words" wide condition: any of them }\n';

  test('tells rule, tags, process, address, mapping and what matched', async () => {
    const file = path.join(made.folder, 'rules.yar');
    await writeFile(file, rules);
    const ran = await exhibit(['scan', '--yara', file, bundle]);
    expect(ran.stdout.toString()).toBe(
      'token [secret,creds]\t4711\t0x555500000027\trw-p [heap]\t$t: token=hunter2\n' +
        'token [secret,creds]\t4711 +1\t0x7f1000000019\trw-s /dev/shm/ring\\u{202e}\t$w: w\\x00i\\x00d\\x00e\\x00 \\x00w\\x00o\\x00r\\x00d\\x00s\\x00\n',
    );
    expect(ran).toMatchObject({ code: 0, stderr: '' });
    const one = await exhibit(['scan', '--yara', file, bundle, '4712', '--json']);
    expect(JSON.parse(one.stdout.toString())).toMatchObject({
      ...{ pid: 4712, rule: 'token', namespace: file, tags: ['secret', 'creds'] },
      strings: [{ id: '$w', address: '0x10000019', sizeBytes: 20, mapping: 'shared-memory' }],
    });
  });

  test('agrees with the yara program on a core, where there is one', async (context) => {
    requireProgram(context, 'yara');
    const file = path.join(made.folder, 'judge.yar');
    const core = path.join(made.folder, 'judge.core');
    await writeFile(file, rules);
    await exhibit(['core', bundle, '4711', '--output', core]);
    const judged = [
      ...runProgram(['yara', '-s', file, core])
        .stdout.toString()
        .matchAll(/^0x\w+:(\$\w)/gm),
    ];
    const ran = await exhibit(['scan', '--yara', file, bundle, '4711']);
    const found = [...ran.stdout.toString().matchAll(/\t(\$\w): /g)];
    expect(found.map(([, id]) => id).sort()).toEqual(judged.map(([, id]) => id).sort());
    expect(judged.length).toBe(2);
  });

  test('says in which line a rule is wrong, exit code 2', async () => {
    const file = path.join(made.folder, 'broken.yar');
    await writeFile(file, 'rule broken {\n  condition: $x\n}\n');
    const ran = await exhibit(['scan', '--yara', file, bundle]);
    expect(ran.code).toBe(2);
    expect(ran.stderr).toContain(`exhibit: ${file} does not compile:`);
    expect(ran.stderr).toContain('line:2:14');
    expect(ran.stderr).toContain('unknown pattern `$x`');
    expect(await exhibit(['scan', '--yara', '/nonexistent', bundle])).toMatchObject({ code: 2 });
  });
});

describe('the commands that read memory', () => {
  test('read it from S3 by ranges', async () => {
    await using s3 = await serveAsS3(bundle, 'evidence', 'a/b');
    const env = { AWS_ACCESS_KEY_ID: 'x', AWS_SECRET_ACCESS_KEY: 'y' };
    const where = ['s3://evidence/a/b', '4711', `${BIG}`, '16', '--endpoint', s3.endpoint, '--region', 'us-east-1'];
    const ran = await exhibit(['mem', ...where, '--stats', '--json'], { env });
    expect(JSON.parse(ran.stdout.toString()).parts).toMatchObject([
      { kind: 'bytes', base64: '/v7+/v7+/v7+/v7+/v7+/g==' },
    ]);
    expect(statsOf(ran.stderr).framesRead).toBeLessThan(15);
  });

  test('say that there is no memory when there is none', async () => {
    await using empty = await someBundle();
    const ran = await exhibit(['strings', empty.bundle]);
    expect(ran).toMatchObject({
      code: 1,
      stderr: 'exhibit: Nothing is stored of memory (failed: ptrace is not permitted).\n',
    });
  });
});
