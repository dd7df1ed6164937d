import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseConfig } from '../../../agent/config.ts';
import type { Patient } from '../../../agent/doctor/patient.ts';
import { checkSpool, examineSpool, type SpoolFacts } from '../../../agent/doctor/spool.ts';
import { openLocalSink } from '../../../agent/sink/local.ts';

const MIB = 2 ** 20;
const good: SpoolFacts = {
  folder: '/run/exhibit/spool',
  memoryFileSystem: 'tmpfs',
  mayBeOnDisk: false,
  key: 'in memory',
  usedBytes: 12 * MIB,
  limitBytes: 512 * MIB,
  freeBytes: 700 * MIB,
  waiting: new Map(),
  sinks: ['s3', 'court'],
};
const onDisk = { memoryFileSystem: undefined, mayBeOnDisk: true } as const;

describe('the line of the spool', () => {
  test('says where it is, what it holds and may hold, and that nothing waits', () => {
    const { status, found } = checkSpool(good);
    expect(status).toBe('ok');
    expect(found).toBe('/run/exhibit/spool is on tmpfs; 12 MiB used of 512 MiB; no capture waits');
    expect(checkSpool({ ...good, waiting: undefined }).found).toBe(
      '/run/exhibit/spool is on tmpfs; 12 MiB used of 512 MiB',
    );
  });

  test.each<[what: string, over: Partial<SpoolFacts>, status: string, meaning: string]>([
    ['a disk that is not allowed', { memoryFileSystem: undefined }, 'failure', 'the agent does not start'],
    ['a key that cannot be read', { key: { unusable: '/k cannot be read' } }, 'failure', 'the agent does not start'],
    ['a disk, and a key that a reboot loses', onDisk, 'warning', 'a reboot loses the key'],
    ['a disk, and the key on it', { ...onDisk, key: 'on a disk' }, 'warning', 'whoever takes both reads'],
    ['a disk, and a key of its own', { ...onDisk, key: 'given' }, 'ok', 'evidence waits here'],
    ['exactly enough room', { usedBytes: 448 * MIB }, 'ok', 'evidence waits here'],
    ['too little room below its bound', { usedBytes: 448 * MIB + 1 }, 'warning', 'room for 64 MiB'],
    ['too little room on its file system', { freeBytes: 5 * MIB }, 'warning', 'room for 5 MiB'],
    ['more in it than its bound', { limitBytes: MIB }, 'warning', 'room for 0 MiB'],
  ])('of %s', (_what, over, status, meaning) => {
    const check = checkSpool({ ...good, ...over });
    expect(check.status).toBe(status);
    expect(check.meaning).toContain(meaning);
  });

  test('counts the captures that wait for each sink, and says which sink is gone', () => {
    const waiting = new Map([
      ['s3', 2],
      ['old', 1],
    ]);
    const check = checkSpool({ ...good, waiting });
    expect(check.status).toBe('warning');
    expect(check.found).toContain('waiting: 2 captures for s3, 1 capture for old (not configured any more)');
    expect(check.mend).toContain('put that sink back into the configuration');
    expect(checkSpool({ ...good, waiting: new Map([['s3', 1]]) }).mend).not.toContain('put that sink back');
  });
});

describe('the look at a spool', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(path.join(existsSync('/dev/shm') ? '/dev/shm' : os.tmpdir(), 'exhibit-doctor-spool-'));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  const patient = (spool: string, over: Partial<Patient> = {}): Patient => ({
    config: parseConfig(`{ sink: { url: 'file:///e' }, stateDir: '${folder}/state', spool: ${spool} }`, 'f', {}),
    host: { procRoot: '/proc', hostRoot: '' },
    runtime: {} as Patient['runtime'],
    sinks: [{ name: 'default', sink: openLocalSink({ url: 'file:///e' }) }],
    storedKey: () => undefined,
    signal: new AbortController().signal,
    ...over,
  });

  test('counts its bytes and what waits, and makes nothing where there is none yet', async () => {
    const [none] = await examineSpool(patient('{ disk: true }'));
    expect(none?.found).toContain(`${folder}/state/spool is on`);
    expect(await readdir(folder)).toEqual([]);
    await mkdir(path.join(folder, 'state/spool/objects'), { recursive: true });
    await writeFile(path.join(folder, 'state/spool/objects/1'), Buffer.alloc(3 * MIB));
    const waiting = () => [['default'], [], ['default', 'old']];
    const [check] = await examineSpool(patient('{ disk: true }', { waiting }));
    expect(check?.found).toContain('3 MiB used of');
    expect(check?.found).toContain('2 captures for default, 1 capture for old (not configured any more)');
  });

  test('reads the key that is given, and says what is wrong with it', async () => {
    const keyFile = path.join(folder, 'key');
    const examined = async () => (await examineSpool(patient(`{ disk: true, keyFile: '${keyFile}' }`)))[0];
    expect(await examined()).toMatchObject({ status: 'failure', found: expect.stringContaining('cannot be read') });
    await writeFile(keyFile, Buffer.alloc(15));
    expect(await examined()).toMatchObject({ found: expect.stringContaining('is shorter than 16 bytes') });
    await writeFile(keyFile, Buffer.alloc(16));
    expect((await examined())?.status).not.toBe('failure');
  });
});
