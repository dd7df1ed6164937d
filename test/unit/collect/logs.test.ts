import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { logsCollector } from '../../../agent/collect/logs.ts';
import { isLogOf } from '../../../agent/collect/logs-held.ts';
import { LOGS_DEFAULTS, type LogsOptions } from '../../../agent/collect/logs-options.ts';
import { asHostPath } from '../../../agent/runtime/runtime.ts';
import { type BundleContext, bundleContext, makeTarget } from './bundle-context.ts';

let root = '';
let pod = '';
beforeEach(() => {
  root = mkdtempSync(path.join(tmpdir(), 'exhibit-logs-'));
  pod = path.join(root, 'host/var/log/pods/ns_pod_uid/app');
  mkdirSync(pod, { recursive: true });
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

async function collect(
  logPath: string,
  change?: (bundle: BundleContext) => void,
  options: Partial<LogsOptions> = {},
): Promise<BundleContext> {
  const target = makeTarget({ logPath: asHostPath(logPath) });
  const bundle = bundleContext(path.join(root, 'out'), target, { hostRoot: path.join(root, 'host') });
  change?.(bundle);
  await logsCollector({ ...LOGS_DEFAULTS, node: [], ...options }).collect(bundle.context);
  return bundle;
}

const LOG = '/var/log/pods/ns_pod_uid/app/1.log';
const members = (bundle: BundleContext) => bundle.objects[0]?.members?.map(({ path: name }) => name);

test('the log, its rotations and those of earlier runs are taken, and nothing else', async () => {
  for (const name of [
    '1.log',
    '1.log.20251101-120000',
    '1.log.20251101-110000.gz',
    '0.log',
    '0.log.20251101-100000.gz',
    'core',
    'x1.log',
  ]) {
    writeFileSync(path.join(pod, name), name);
  }
  const bundle = await collect(LOG);
  expect(members(bundle)).toEqual([
    '0.log',
    '0.log.20251101-100000.gz',
    '1.log',
    '1.log.20251101-110000.gz',
    '1.log.20251101-120000',
  ]);
  expect(bundle.gaps).toEqual([]);
  const tar = execFileSync('tar', ['-xO', '1.log.20251101-120000'], { input: bundle.content('logs.tar.zst') });
  expect(tar.toString()).toBe('1.log.20251101-120000');
});

test('a log named otherwise takes only its own rotations', () => {
  expect(isLogOf('app.log', 'app.log.1')).toBe(true);
  expect(isLogOf('app.log', '0.log')).toBe(false);
  expect(isLogOf('0.log', '10.log.20251101-120000')).toBe(true);
});

test('a link in /var/log/containers leads to the folder of the rotations, and is noted', async () => {
  writeFileSync(path.join(pod, '1.log'), 'x');
  mkdirSync(path.join(root, 'host/var/log/containers'));
  symlinkSync(LOG, path.join(root, 'host/var/log/containers/app.log'));
  const bundle = await collect('/var/log/containers/app.log');
  expect(members(bundle)).toEqual(['1.log']);
  expect(bundle.notes).toEqual([`/var/log/containers/app.log is a link to ${LOG}`]);
});

test('a rotation that is a link or a FIFO is a gap, and is neither followed nor waited for', async () => {
  writeFileSync(path.join(pod, '1.log'), 'x');
  symlinkSync('/etc/passwd', path.join(pod, '1.log.20251101-120000'));
  execFileSync('mkfifo', [path.join(pod, '1.log.20251101-130000')]);
  const bundle = await collect(LOG);
  expect(members(bundle)).toEqual(['1.log']);
  expect(bundle.gaps.map(({ what }) => what)).toEqual(['1.log.20251101-120000', '1.log.20251101-130000']);
});

test('a log that grows is stored as long as it was when it was opened', async () => {
  const log = path.join(pod, '1.log');
  writeFileSync(log, Buffer.alloc(3 * 1024 * 1024, 'a'));
  const bundle = await collect(LOG, ({ context }) => {
    const { archive } = context;
    Object.assign(context, {
      archive: async (name: string) => {
        const opened = await archive(name);
        const add: typeof opened.add = (header, body) => {
          appendFileSync(log, 'more');
          return opened.add(header, body);
        };
        return { add, commit: () => opened.commit(), [Symbol.asyncDispose]: () => opened[Symbol.asyncDispose]() };
      },
    });
  });
  expect(bundle.objects[0]?.members?.[0]?.sizeBytes).toBe(3 * 1024 * 1024);
  expect(readFileSync(log).length).toBe(3 * 1024 * 1024 + 4);
  expect(bundle.gaps).toEqual([]);
});

test('a log that is cut while it is read is filled with zeros, and that is a gap', async () => {
  const log = path.join(pod, '1.log');
  writeFileSync(log, Buffer.alloc(3 * 1024 * 1024, 'a'));
  const bundle = await collect(LOG, ({ context }) => {
    const { archive } = context;
    Object.assign(context, {
      archive: async (name: string) => {
        const opened = await archive(name);
        const add: typeof opened.add = (header, body) => {
          truncateSync(log, 10);
          return opened.add(header, body);
        };
        return { add, commit: () => opened.commit(), [Symbol.asyncDispose]: () => opened[Symbol.asyncDispose]() };
      },
    });
  });
  expect(bundle.gaps[0]?.why).toMatch(/became shorter/);
});

test('a log or a folder that is not there is a gap', async () => {
  expect((await collect(LOG)).gaps).toMatchObject([{ what: LOG, errno: 'ENOENT' }]);
  expect((await collect('/var/log/none/0.log')).gaps).toMatchObject([{ what: '/var/log/none', errno: 'ENOENT' }]);
});

test('a target without a log path leaves an empty archive and a note', async () => {
  const bundle = bundleContext(path.join(root, 'out'), makeTarget({}));
  await logsCollector({ ...LOGS_DEFAULTS, node: [] }).collect(bundle.context);
  expect(members(bundle)).toEqual([]);
  expect(bundle.notes[0]).toMatch(/no log file/);
});

const contentOf = (bundle: BundleContext, name: string): string =>
  execFileSync('tar', ['-xO', name], { input: bundle.content('logs.tar.zst') }).toString();

function plant(name: string, content: string | Uint8Array, writtenS: number): void {
  writeFileSync(path.join(pod, name), content);
  utimesSync(path.join(pod, name), writtenS, writtenS);
}

describe('a bound on bytes', () => {
  const plantFour = (): void => {
    plant('1.log', 'running...', 4000);
    plant('1.log.20251101-120000', 'newer 0123456789', 3000);
    plant('1.log.20251101-110000.gz', 'packed 0123456789', 2000);
    plant('0.log', 'oldest', 1000);
  };

  test('is spent on the newest lines: the rest of the last file that fits, and gaps for those before', async () => {
    plantFour();
    const bundle = await collect(LOG, undefined, { containerBytes: 20 });
    expect(members(bundle)).toEqual(['1.log', '1.log.20251101-120000']);
    expect(contentOf(bundle, '1.log')).toBe('running...');
    expect(contentOf(bundle, '1.log.20251101-120000')).toBe('0123456789');
    expect(bundle.gaps.map(({ what, why }) => `${what}: ${why}`)).toEqual([
      '1.log.20251101-120000: beyond logs.containerBytes: its first 6 of 16 bytes are not stored',
      '1.log.20251101-110000.gz: beyond logs.containerBytes: 17 bytes, last written 1970-01-01T00:33:20.000Z, are not stored',
      '0.log: beyond logs.containerBytes: 6 bytes, last written 1970-01-01T00:16:40.000Z, are not stored',
    ]);
  });

  test('leaves a compressed rotation whole or out', async () => {
    plantFour();
    const bundle = await collect(LOG, undefined, { containerBytes: 30 });
    expect(members(bundle)).toEqual(['1.log', '1.log.20251101-120000']);
    expect(bundle.gaps).toHaveLength(2);
    const whole = await collect(LOG, undefined, { containerBytes: 43 });
    expect(members(whole)).toContain('1.log.20251101-110000.gz');
    expect(whole.notes).toContain('1 of the log files are compressed rotations, stored as they are');
  });

  test('takes the end of a running log that is larger', async () => {
    plantFour();
    const bundle = await collect(LOG, undefined, { containerBytes: 3 });
    expect(contentOf(bundle, '1.log')).toBe('...');
    expect(bundle.gaps).toHaveLength(4);
  });
});

test('a log that is rotated while it is read is the file that it was', async () => {
  plant('1.log', 'before', 4000);
  const bundle = await collect(LOG, ({ context }) => {
    const { archive } = context;
    Object.assign(context, {
      archive: async (name: string) => {
        const opened = await archive(name);
        const add: typeof opened.add = (header, body) => {
          renameSync(path.join(pod, '1.log'), path.join(pod, '1.log.20251101-130000'));
          plant('1.log', 'after', 5000);
          return opened.add(header, body);
        };
        return { add, commit: () => opened.commit(), [Symbol.asyncDispose]: () => opened[Symbol.asyncDispose]() };
      },
    });
  });
  expect(contentOf(bundle, '1.log')).toBe('before');
  expect(bundle.notes).toContain(
    '1.log was rotated while it was read: the member of that name is the file that had it before',
  );
});

/** Writes numbered lines and rotates as kubelet does, 200 times a second: rename, pack the one before, delete beyond five. */
const ROTATOR = `
import gzip, os, sys, time
os.chdir(sys.argv[1])
n = r = 0
rotated = []
while True:
    if r == 10: print('ready', flush=True)
    with open('1.log', 'ab', 0) as log:
        for _ in range(20):
            log.write(b'%d\\n' % n)
            n += 1
    r += 1
    name = '1.log.%08d' % r
    os.rename('1.log', name)
    open('1.log', 'ab').close()
    rotated.append(name)
    time.sleep(0.005)
    if len(rotated) > 1:
        last = rotated[-2]
        with open(last, 'rb') as plain, gzip.open(last + '.tmp', 'wb') as packed: packed.write(plain.read())
        os.rename(last + '.tmp', last + '.gz')
        os.remove(last)
    if len(rotated) > 5: os.remove(rotated.pop(0) + '.gz')
`;

test('a log that is rotated all the time loses no line between its newest and its oldest, or says so', async () => {
  const rotator = spawn('python3', ['-c', ROTATOR, pod], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = once(rotator, 'exit');
  try {
    await once(rotator.stdout, 'data');
    let whole = 0;
    for (let run = 0; run < 30; run += 1) {
      const bundle = await collect(LOG);
      const numbers = (members(bundle) ?? [])
        .filter((name) => !name.endsWith('.tmp'))
        .flatMap((name) => {
          const bytes = execFileSync('tar', ['-xO', name], { input: bundle.content('logs.tar.zst') });
          return (name.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString().split('\n').slice(0, -1).map(Number);
        });
      const found = [...new Set(numbers)].sort((a, b) => a - b);
      expect(found.length).toBeGreaterThan(0);
      const span = (found.at(-1) ?? 0) - (found[0] ?? 0) + 1;
      if (bundle.gaps.length === 0) expect(span).toBe(found.length);
      if (bundle.gaps.length === 0) whole += 1;
      rmSync(path.join(root, 'out'), { recursive: true });
    }
    expect(whole).toBeGreaterThan(0);
  } finally {
    rotator.kill('SIGKILL');
    await ended;
  }
});
