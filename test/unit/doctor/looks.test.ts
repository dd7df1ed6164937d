import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseConfig } from '../../../agent/config.ts';
import { captureLooks, type LookParts } from '../../../agent/doctor/looks.ts';
import { openHostRuntime } from '../../../agent/runtime/host.ts';
import type { Runtime } from '../../../agent/runtime/runtime.ts';
import { openLocalSink } from '../../../agent/sink/local.ts';
import type { NamedSink } from '../../../agent/sink/several.ts';
import { ExhibitError } from '../../../evidence/error.ts';

/** What of the examination decides about readiness, on this machine, with sinks and runtimes that fail to order. */

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp('/dev/shm/exhibit-looks-');
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const host = { procRoot: '/proc', hostRoot: '' };
const config = (more = '') =>
  parseConfig(`{ sink: { url: 'file://${folder}/evidence' }, stateDir: '${folder}'${more} }`, 'f', {});

function parts(over: Partial<LookParts> = {}): LookParts {
  const sinks = [{ name: 'default', sink: openLocalSink({ url: `file://${folder}/evidence` }) }];
  return { config: config(), host, runtime: openHostRuntime({ host }), sinks, shortages: async () => [], ...over };
}

async function failures(over: Partial<LookParts> = {}): Promise<string[]> {
  const found = await Promise.all(captureLooks(parts(over)).map((look) => look.ask(AbortSignal.timeout(10_000))));
  return found.flat().flatMap(({ status, name, found: words }) => (status === 'failure' ? [`${name}: ${words}`] : []));
}

function failing(name: string, words: string, cause?: string): NamedSink {
  const sink = openLocalSink({ url: `file://${folder}/${name}` });
  const why = Object.assign(new Error(words), cause === undefined ? {} : { code: cause });
  return {
    name,
    sink: { ...sink, check: () => Promise.reject(new ExhibitError('sink-failed', words, { cause: why })) },
  };
}

describe('the looks', () => {
  test('find nothing on a machine where a capture would work', async () => {
    expect(await failures()).toEqual([]);
  });

  test('see a runtime that does not answer, in its own sentence alone', async () => {
    const words = 'nothing listens on the socket';
    const identify = () =>
      Promise.reject(new ExhibitError('runtime-unreachable', words, { cause: new Error('14 UNAVAILABLE') }));
    const runtime = { ...openHostRuntime({ host }), kind: 'cri', identify } as Runtime;
    expect(await failures({ runtime })).toEqual([`runtime: ${words}`]);
  });

  test('see a state folder that is gone, and a process 1 that is not to be seen', async () => {
    const gone = parseConfig(
      `{ sink: { url: 'file:///e' }, stateDir: '${folder}/gone', spool: { path: '${folder}/s' } }`,
      'f',
      {},
    );
    expect(await failures({ config: gone })).toEqual([`state: ${folder}/gone is not there`]);
    expect(await failures({ host: { procRoot: folder, hostRoot: '' } })).toEqual(
      expect.arrayContaining([`processes: ${folder} shows no process 1`]),
    );
  });

  test('see a spool that cannot be written, with every sink well', async () => {
    await writeFile(path.join(folder, 'no-folder'), '');
    const its = config(`, spool: { path: '${folder}/no-folder' }`);
    expect(await failures({ config: its })).toEqual([`spool: ${folder}/no-folder is no folder`]);
  });

  test('say nothing of a policy that refuses everything: that is what its owner wants', async () => {
    expect(await failures({ config: config(', policy: { artifacts: [] }') })).toEqual([]);
  });

  test('see that the node has less room than the limits leave it', async () => {
    expect(await failures({ shortages: async () => ['the disk is nearly full'] })).toEqual([
      'room: the disk is nearly full',
    ]);
  });

  test('see a key that does not sign', async () => {
    const found = await failures({ config: config(`, signing: { keyFile: '/nonexistent.pem' }`) });
    expect(found).toEqual([expect.stringMatching(/^signing: \/nonexistent.pem: /)]);
  });

  test('ask S3 and KMS once in a quarter of an hour, and what is near every five seconds', () => {
    const kms = config(`, signing: { keys: [{ kms: 'alias/x', region: 'eu-central-1' }] }`);
    const every = new Map(captureLooks(parts({ config: kms })).map(({ name, everyMs }) => [name, everyMs]));
    expect(every).toEqual(
      new Map([
        ['processes', 5_000],
        ['spool', 5_000],
        ['room', 5_000],
        ['process-memory', 60_000],
        ['state', 5_000],
        ['memory', 5_000],
        ['sink', 900_000],
        ['signing', 900_000],
      ]),
    );
  });
});

describe('a sink', () => {
  const away = () => failing('away', 'it cannot be reached', 'ECONNREFUSED');
  const refusing = () => failing('refusing', 'it denies access', 'AccessDenied');

  test('that is away is no reason as long as evidence can wait for it', async () => {
    expect(await failures({ sinks: [away()] })).toEqual([]);
    expect(await failures({ sinks: [away()], config: config(', spool: { bytes: 1MiB }') })).toEqual([
      'sink: it cannot be reached',
    ]);
  });

  test('that refuses is one, with room in the spool or without', async () => {
    expect(await failures({ sinks: [refusing()] })).toEqual(['sink: it denies access']);
  });

  test('whose credentials are missing, or that is too far from the node’s clock, is one: a person has to mend it', async () => {
    for (const code of ['CredentialsProviderError', 'RequestTimeTooSkewed', 'CERT_NOT_YET_VALID'])
      expect(await failures({ sinks: [failing('mine', `with ${code}`, code)] })).toEqual([`sink: with ${code}`]);
  });

  test('that refuses is none beside one that takes evidence', async () => {
    const good = { name: 'good', sink: openLocalSink({ url: `file://${path.join(folder, 'good')}` }) };
    expect(await failures({ sinks: [refusing(), good] })).toEqual([]);
  });

  test('that refuses is none beside one that is away, for which evidence can wait', async () => {
    expect(await failures({ sinks: [refusing(), away()] })).toEqual([]);
    const found = await failures({ sinks: [refusing(), away()], config: config(', spool: { bytes: 1MiB }') });
    expect(found).toEqual(['sink:refusing: it denies access', 'sink:away: it cannot be reached']);
  });

  test('that a capture could not write to is what the look is about', () => {
    const look = captureLooks(parts()).find(({ name }) => name === 'sink');
    expect(look?.concerns?.(new ExhibitError('sink-failed', 'it denies access'))).toBe('it denies access');
    expect(look?.concerns?.(new ExhibitError('spool-full', 'no room'))).toBe('no room');
    expect(look?.concerns?.(new ExhibitError('refused', 'the policy'))).toBeUndefined();
    expect(look?.concerns?.(undefined)).toBeUndefined();
  });
});
