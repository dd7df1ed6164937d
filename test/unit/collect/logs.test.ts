import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { logsCollector } from '../../../agent/collect/logs.ts';
import { isLogOf } from '../../../agent/collect/logs-held.ts';
import { LOGS_DEFAULTS } from '../../../agent/collect/logs-options.ts';
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

async function collect(logPath: string, change?: (bundle: BundleContext) => void): Promise<BundleContext> {
  const target = makeTarget({ logPath: asHostPath(logPath) });
  const bundle = bundleContext(path.join(root, 'out'), target, { hostRoot: path.join(root, 'host') });
  change?.(bundle);
  await logsCollector({ ...LOGS_DEFAULTS, node: [] }).collect(bundle.context);
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
