import { describe, expect, test, vi } from 'vitest';
import { exhibit, TEST_TIMEOUT_MS } from '../unit/cli/run.ts';
import { judgesObstacle, mactimeObstacle, readAsMactime, readAsTimesketch } from '../unit/cli/timeline-judges.ts';
import { type Contents, inventoryLine, timelineBundle } from '../unit/evidence/timeline/timeline-bundle.ts';

/** A timeline of evidence that was made to break whoever reads it: our sources, a terminal, a spreadsheet, mactime, Timesketch. */

vi.setConfig({ testTimeout: TEST_TIMEOUT_MS });

const NAMES = [
  'new\nline|0|0|0',
  'esc\x1b[2J\x07',
  'percent%0A%7C',
  'quote"comma,semi;',
  'back\\slash\\x0a',
  'bidi\u202egpj.exe',
  'line\u2028separator\u0085',
  '=HYPERLINK("http://evil")',
  ' [capture]',
  '#comment',
  'nul\0byte',
  '../../../etc/passwd',
  'x'.repeat(32_000),
  '\x01'.repeat(30_000),
];
const NOT_UTF8 = Buffer.from([0x6e, 0xff, 0x7c, 0x0a, 0x6d]);

const SECOND = 1_000_000_000n;
/** Before 1970, of year 0, beyond 2038, 2262 and 9999, and what no stat(2) can say. */
const TIMES = [
  -1n,
  -(2n ** 62n),
  -62_135_596_801n,
  2n ** 31n,
  9_300_000_000n,
  253_402_300_800n,
  2n ** 63n - 1n,
  9n * 10n ** 18n,
];

const inventory = (): object[] => [
  ...NAMES.map((name, index) => inventoryLine({ path: name, inode: String(index + 100) })),
  inventoryLine({ path: NOT_UTF8.toString(), pathBase64: NOT_UTF8.toString('base64'), inode: '200' }),
  ...TIMES.map((seconds, index) =>
    inventoryLine({
      path: `time-${index}`,
      mtimeNs: `${seconds * SECOND}`,
      birthNs: '-1',
      inode: '-5',
      sizeBytes: 1e21,
      uid: -1,
    }),
  ),
];

const bundleOf = (lines: readonly (object | string)[], more: Contents = {}): Contents => ({
  ...more,
  lists: { 'rootfs.inventory.jsonl.zst': lines },
  artifacts: { rootfs: ['rootfs.inventory.jsonl.zst'], ...more.artifacts },
});

describe('hostile names and times', () => {
  test('are exact in JSON lines, and nothing in them reaches a terminal', async ({ skip }) => {
    if (judgesObstacle() !== undefined) skip(judgesObstacle());
    await using bundle = await timelineBundle(bundleOf(inventory()));
    const ran = await exhibit(['timeline', bundle.folder]);
    expect(ran).toMatchObject({ code: 0, stderr: '' });
    const rows = readAsTimesketch('jsonl', ran.stdout);
    const paths = new Set(rows.map(({ path }) => path));
    for (const name of NAMES) expect(paths).toContain(`/${name.replace(/^(\.?\/)+/, '')}`);
    expect(rows.find(({ inode }) => inode === '200')).toMatchObject({ path_base64: NOT_UTF8.toString('base64') });
    expect(ran.stdout.toString()).not.toMatch(/(?!\n)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u);
    expect(ran.stdout.toString().trimEnd().split('\n')).toHaveLength(rows.length);
  });

  test('keep the exact time where a year of four digits cannot say it, and say so', async ({ skip }) => {
    if (judgesObstacle() !== undefined) skip(judgesObstacle());
    await using bundle = await timelineBundle(bundleOf(inventory()));
    const rows = readAsTimesketch('jsonl', (await exhibit(['timeline', bundle.folder])).stdout);
    for (const [index, seconds] of TIMES.entries()) {
      const row = rows.find((one) => one.path === `/time-${index}` && one.timestamp_ns === `${seconds * SECOND}`);
      const isBeyond = seconds < -62_135_596_800n || seconds > 253_402_300_799n;
      expect(row?.timestamp_desc).toBe(`Content Modification Time${isBeyond ? ' (out of range)' : ''}`);
    }
  });

  test('make rows of CSV that are a line each, without formulas and controls', async ({ skip }) => {
    if (judgesObstacle() !== undefined) skip(judgesObstacle());
    const processes = {
      pid: 17,
      comm: '=1+1',
      commandLine: ['=cmd|calc', '\n'],
      startedAt: '2023-11-14T22:13:21.250Z',
      executable: { path: '@SUM(1)', modifiedAt: '2023-11-14T22:13:21.250Z' },
    };
    await using bundle = await timelineBundle(
      bundleOf(inventory(), {
        archives: { 'processes.tar.zst': { 'processes.jsonl': `${JSON.stringify(processes)}\n` } },
        artifacts: { processes: ['processes.tar.zst'] },
      }),
    );
    const ran = await exhibit(['timeline', bundle.folder, '--format', 'csv']);
    expect(ran).toMatchObject({ code: 0, stderr: '' });
    const rows = readAsTimesketch('csv', ran.stdout);
    expect(ran.stdout.toString().split('\r\n')).toHaveLength(rows.length + 2);
    const texts = rows.flatMap((row) => Object.values(row)).filter((value) => !/^-?\d+$/.test(String(value)));
    expect(texts.filter((text) => /^[=+\-@]|[\x00-\x1f\x7f\u202e\u2028]/.test(String(text)))).toEqual([]);
    expect(rows.find(({ pid }) => pid === '17')).toMatchObject({
      executable: "'@SUM(1)",
      command_line: `'=cmd|calc "\\n"`,
    });
  });

  test('are read by mactime without a complaint, each name on its line', async ({ skip }) => {
    if (mactimeObstacle() !== undefined) skip(mactimeObstacle());
    await using bundle = await timelineBundle(bundleOf(inventory()));
    const ran = await exhibit(['timeline', bundle.folder, '--format', 'body', '--artifact', 'rootfs']);
    expect(ran).toMatchObject({ code: 0, stderr: '' });
    const lines = ran.stdout.toString('latin1').trimEnd().split('\n');
    expect(lines).toHaveLength(NAMES.length + 1 + TIMES.length);
    expect(lines.filter((line) => line.split('|').length !== 11)).toEqual([]);
    const rows = readAsMactime(ran.stdout);
    const names = new Set(rows.map(({ name }) => name));
    expect(names).toContain('/new\\x0aline|0|0|0 [rootfs]');
    expect(names).toContain('/esc\\x1b[2J\\x07 [rootfs]');
    expect(names).toContain('/percent%0A%7C [rootfs]');
    expect(names).toContain('/back\\slash\\x0a [rootfs]');
    expect(names).toContain('/ [capture] [rootfs]');
    expect(names).toContain('/n\\xff|\\x0am [rootfs]');
    expect(rows.find(({ name }) => name === '/time-3 [rootfs]')).toBeDefined();
    expect(rows.filter(({ name, time }) => name.startsWith('/time-6 ') && time.startsWith('9999-12-31'))).toHaveLength(
      1,
    );
  });
});

describe('hostile lists and logs', () => {
  test('cost their own lines only', async ({ skip }) => {
    if (judgesObstacle() !== undefined) skip(judgesObstacle());
    const deep = `{"path":${'['.repeat(100_000)}${']'.repeat(100_000)}}`;
    const good = inventoryLine();
    await using bundle = await timelineBundle(
      bundleOf([
        deep,
        inventoryLine({ mtimeNs: '1e99' }),
        inventoryLine({ mtimeNs: '9'.repeat(1000) }),
        '{"__proto__":{"path":"x"}}',
        good,
      ]),
    );
    const ran = await exhibit(['timeline', bundle.folder]);
    expect(ran.code).toBe(1);
    expect(ran.stderr).toContain('rootfs.inventory.jsonl.zst: 4 lines are left out');
    expect(readAsTimesketch('jsonl', ran.stdout).filter(({ artifact }) => artifact === 'rootfs')).toHaveLength(4);
  });

  test('of any length and kind are bounded, told by member, and the others come', async ({ skip }) => {
    if (judgesObstacle() !== undefined) skip(judgesObstacle());
    const at = '2023-11-14T22:13:22Z';
    const logs = {
      '0.log': `${at} stdout F before\n${at} stdout F ${'y'.repeat(3 * 1024 * 1024)}\n${at} stdout F after \x1b[31m\u202e\n`,
      '1.log': Buffer.from([0, 1, 2, 255, 10, 255]),
      '2.log.gz': Buffer.from('this is no gzip'),
      'evil\x1b[2J\n.log': 'nothing\n',
      '3.log': `${at} stdout F ${'z'.repeat(100_000)}\n`,
    };
    await using bundle = await timelineBundle({
      archives: { 'logs.tar.zst': logs },
      artifacts: { logs: ['logs.tar.zst'] },
    });
    const ran = await exhibit(['timeline', bundle.folder]);
    expect(ran.code).toBe(1);
    expect(ran.stderr.split('\n').slice(0, -2)).toEqual([
      'exhibit: logs.tar.zst, 0.log: line 2 is longer than 1048576 bytes',
      'exhibit: logs.tar.zst, 1.log: 2 lines are left out, the first: line 1 is no line of a container log',
      expect.stringMatching(/^exhibit: logs\.tar\.zst, 2\.log\.gz: it does not decompress to its end: /),
      'exhibit: logs.tar.zst, evil\\x1b[2J\\n.log: line 1 is no line of a container log',
    ]);
    const rows = readAsTimesketch('jsonl', ran.stdout).filter(({ artifact }) => artifact === 'logs');
    expect(rows.map(({ message }) => String(message).slice(0, 30))).toEqual([
      'stdout: before',
      'stdout: after \x1b[31m\u202e',
      `stdout: ${'z'.repeat(22)}`,
    ]);
    expect(String(rows[2]?.message)).toMatch(/z…$/);
  });

  test('with documents that are none tell so', async () => {
    const archives = {
      'spec.tar.zst': {
        'docker-inspect.json': 'no json',
        'image-config.json': '{"created":7,"history":{}}',
        'cri-pod-status.json': 'null',
      },
    };
    await using bundle = await timelineBundle({ archives, artifacts: { spec: ['spec.tar.zst'] } });
    const ran = await exhibit(['timeline', bundle.folder, '--artifact', 'spec']);
    expect(ran.code).toBe(1);
    expect(ran.stdout.toString()).toBe('');
    expect(ran.stderr).toContain(
      'exhibit: spec.tar.zst, docker-inspect.json: docker-inspect.json is not JSON in UTF-8\n',
    );
  });
});
