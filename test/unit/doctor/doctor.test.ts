import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseConfig } from '../../../agent/config.ts';
import { GROUPS } from '../../../agent/doctor/check.ts';
import { examine } from '../../../agent/doctor/doctor.ts';
import type { Patient } from '../../../agent/doctor/patient.ts';
import type { Runtime } from '../../../agent/runtime/runtime.ts';
import { openLocalSink } from '../../../agent/sink/local.ts';
import type { Sink } from '../../../agent/sink/sink.ts';
import { ExhibitError } from '../../../evidence/error.ts';

/** The whole examination, on this machine, with runtimes and sinks of our own making. */

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'exhibit-doctor-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const never = <Value>() => new Promise<Value>(() => undefined);

function runtime(over: Partial<Runtime> = {}): Runtime {
  return {
    kind: 'cri',
    identify: async () => ({ name: 'containerd', version: '2.1.9' }),
    list: async () => [],
    resolve: () => Promise.reject(new Error('not used')),
    pids: () => Promise.reject(new Error('not used')),
    rungs: [
      {
        name: 'cri',
        delivers: 'archive',
        checkpoint: () => Promise.reject(new Error('not used')),
        clean: async () => [],
      },
    ],
    pauseOf: () => undefined,
    resumeIfPaused: () => Promise.reject(new Error('not used')),
    [Symbol.asyncDispose]: async () => undefined,
    ...over,
  };
}

function patient(over: Partial<Patient> = {}): Patient {
  const url = `file://${folder}/evidence`;
  return {
    config: parseConfig(`{ sink: { url: '${url}' }, stateDir: '${folder}/state' }`, 'f', {}),
    host: { procRoot: '/proc', hostRoot: '' },
    runtime: runtime(),
    sinks: [{ name: 'default', sink: openLocalSink({ url }) }],
    storedKey: () => undefined,
    signal: AbortSignal.timeout(60_000),
    ...over,
  };
}

const byName = async (over: Partial<Patient> = {}) =>
  new Map((await examine(patient(over))).map((check) => [check.name, check]));

describe('the examination', () => {
  test('tells every line once, group by group, and leaves nothing behind', async () => {
    const checks = await examine(patient());
    const names = checks.map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    expect(names).toEqual(expect.arrayContaining(['runtime', 'criu', 'page-scan', 'cgroup', 'state', 'sink', 'clock']));
    const groups = checks.map(({ group }) => GROUPS.indexOf(group));
    expect(groups).toEqual(groups.toSorted((a, b) => a - b));
    for (const { found, meaning, mend, status } of checks) {
      expect([found, meaning].every((words) => words !== '' && !words.endsWith('.'))).toBe(true);
      expect(mend === '').toBe(status === 'ok');
    }
  });

  test('says that a runtime which answers with an error fails captures', async () => {
    const refuse = () => Promise.reject(new ExhibitError('runtime-unreachable', 'nothing listens on it'));
    const checks = await byName({ runtime: runtime({ identify: refuse, list: refuse, describe: refuse }) });
    expect(checks.get('runtime')).toMatchObject({ status: 'failure', found: 'nothing listens on it' });
    expect(checks.get('checkpoint')).toMatchObject({ status: 'warning' });
    expect(checks.has('snapshotter')).toBe(false);
    expect(checks.get('sink')).toMatchObject({ status: 'ok' });
  });

  test('ends in time although nobody answers, and says who did not', async () => {
    const begin = performance.now();
    const sink: Sink = { ...openLocalSink({ url: `file://${folder}` }), check: never, rights: never };
    const silent = runtime({ identify: never, list: never, describe: never });
    const checks = await byName({
      runtime: silent,
      sinks: [{ name: 'default', sink }],
      signal: AbortSignal.timeout(200),
    });
    expect(performance.now() - begin).toBeLessThan(10_000);
    expect(checks.get('runtime')?.status).toBe('failure');
    expect(checks.get('sink')?.status).toBe('failure');
    expect(checks.get('append-only')).toMatchObject({ status: 'warning', meaning: 'this could not be examined' });
    expect(checks.get('signing')?.found).toBe('a key made at start');
  });

  test('looks at every sink, each by its name', async () => {
    const check = () => Promise.reject(new ExhibitError('sink-failed', 'it denies access'));
    const good = openLocalSink({ url: `file://${folder}` });
    const checks = await byName({
      sinks: [
        { name: 'west', sink: { ...good, check } },
        { name: 'here', sink: good },
      ],
    });
    expect(checks.get('sink:west')).toMatchObject({
      status: 'warning',
      found: 'it denies access',
      meaning: 'captures are stored in the other sinks alone',
    });
    expect(checks.get('sink:here')?.status).toBe('ok');
    expect([...checks.keys()]).toEqual(expect.arrayContaining(['append-only:west', 'append-only:here']));
  });

  test('fails when no sink takes evidence', async () => {
    const check = () => Promise.reject(new ExhibitError('sink-failed', 'it denies access'));
    const sink = { ...openLocalSink({ url: `file://${folder}` }), check };
    const checks = await byName({
      sinks: [
        { name: 'a', sink },
        { name: 'b', sink },
      ],
    });
    expect([checks.get('sink:a')?.status, checks.get('sink:b')?.status]).toEqual(['failure', 'failure']);
  });

  test('is told what the sink failed with', async () => {
    const check = () => Promise.reject(new ExhibitError('sink-failed', 'it denies access'));
    const sink: Sink = { ...openLocalSink({ url: `file://${folder}` }), check };
    expect((await byName({ sinks: [{ name: 'default', sink }] })).get('sink')).toMatchObject({
      status: 'failure',
      found: 'it denies access',
    });
  });

  test('of a node that shows nothing is words and no stack', async () => {
    const nowhere = path.join(folder, 'nowhere');
    const checks = [...(await byName({ host: { procRoot: nowhere, hostRoot: nowhere } })).values()];
    expect(checks.find(({ name }) => name === 'processes')?.status).toBe('failure');
    expect(checks.find(({ name }) => name === 'process-memory')?.status).toBe('failure');
    expect(checks.find(({ name }) => name === 'criu')?.found).toContain('no containerd process was found');
    expect(JSON.stringify(checks)).not.toMatch(/\bat .*\.ts:\d+/);
  });
});
