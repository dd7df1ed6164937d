import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { afterAll, describe, expect, test } from 'vitest';
import { processesCollector } from '../../../agent/collect/processes.ts';
import { openInlineReader } from '../../../agent/host/procfs-reader.ts';
import { placeRecording, recordedFacts } from '../fixtures/proc/proc-tree.ts';
import { fakeContext, jsonLines, startSpecimen } from './proc-context.ts';

const live = { procRoot: '/proc', hostRoot: '' };
const canTrace = process.platform === 'linux' && process.getuid?.() === 0 && existsSync('/usr/bin/perl');

describe('a recorded tree', () => {
  const fact = recordedFacts('specimen');
  const recordedHost = placeRecording('specimen');
  afterAll(() => recordedHost[Symbol.dispose]());
  const pids = [fact('pid'), fact('child'), fact('zombie'), 2];

  async function collect(...extra: number[]) {
    const { context, written } = fakeContext(recordedHost, [...pids, ...extra]);
    await processesCollector({ openReader: openInlineReader }).collect(context);
    return written;
  }

  test('gives one line a process, with what makes an analyst look twice', async () => {
    const written = await collect();
    const [specimen, child, zombie, kernel] = jsonLines(written, 'processes.jsonl');
    expect(specimen).toMatchObject({
      pid: fact('pid'),
      depth: 0,
      comm: ') R 1 (\n\ufffd x',
      commBase64: expect.any(String),
      commandLine: [') R 1 (\n\ufffd x'],
      commandLineBase64: expect.any(String),
      executable: { path: '/tmp/spec/perl (deleted)', deleted: true },
    });
    expect(specimen?.anomalies?.map(({ kind }) => kind)).toEqual(
      expect.arrayContaining(['deletedExecutable', 'executableInWritablePlace', 'anonymousExecutableRegion', 'memfds']),
    );
    expect(child).toMatchObject({
      ppid: fact('pid'),
      depth: 1,
      environmentNames: expect.arrayContaining(['SECRET', 'LD_LIBRARY_PATH']),
      anomalies: expect.arrayContaining([{ kind: 'loaderEnvironment', names: ['LD_LIBRARY_PATH'] }]),
    });
    expect(zombie).toMatchObject({ state: 'zombie', depth: 1, memory: { regions: 0 } });
    expect(zombie?.executable).toBeUndefined();
    expect(kernel).toMatchObject({ kernelThread: true, commandLine: [] });
    expect(written.committed).toBe(true);
  });

  test('joins the ends of the pipe between parent and child', async () => {
    const [specimen, child] = jsonLines(await collect(), 'processes.jsonl');
    const writer = specimen?.descriptors?.find(({ fd }) => Number(fd) === fact('pipe'));
    expect(writer?.peers).toEqual([{ pid: fact('child'), fd: expect.any(Number) }]);
    const reader = child?.descriptors?.find(({ fd }) => fd === writer?.peers?.[0]?.fd);
    expect(reader?.peers).toContainEqual({ pid: fact('pid'), fd: fact('pipe') });
  });

  test('keeps the raw files byte for byte, before the analysed lines', async () => {
    const written = await collect();
    const environ = readFileSync(`${recordedHost.procRoot}/${fact('pid')}/environ`);
    expect(written.members.get(`proc/${fact('pid')}/environ`)).toEqual(environ);
    const names = [...written.members.keys()];
    expect(names.indexOf('processes.jsonl')).toBeGreaterThan(names.lastIndexOf('proc/2/status'));
  });

  test('a mount table that an earlier process has is kept once', async () => {
    const written = await collect();
    const [, child] = jsonLines(written, 'processes.jsonl');
    expect(child?.rawSameAs).toEqual({ mountinfo: `proc/${fact('pid')}/mountinfo` });
    expect(written.members.has(`proc/${fact('child')}/mountinfo`)).toBe(false);
  });

  test('a process that is gone is a gap, and the others are kept', async () => {
    const written = await collect(99999);
    expect(written.gaps).toContainEqual(
      expect.objectContaining({ pid: 99999, errno: 'ENOENT', why: expect.stringMatching(/ended/) }),
    );
    expect(jsonLines(written, 'processes.jsonl')).toHaveLength(5);
  });

  test('what cannot be recovered any more is a gap that names it', async () => {
    const written = await collect();
    expect(written.gaps).toContainEqual(
      expect.objectContaining({
        what: expect.stringContaining(`recovered/${fact('pid')}/exe (/tmp/spec/perl held by`),
      }),
    );
  });
});

describe.skipIf(!canTrace)('a real process (skipped without root or perl)', () => {
  test('its deleted executable, memfd and deleted file are recovered, each once', async () => {
    await using specimen = await startSpecimen();
    const { fact } = specimen;
    const { context, written } = fakeContext(live, [fact('pid'), fact('child'), fact('zombie')]);
    await processesCollector().collect(context);
    expect(written.gaps).toEqual([]);
    const perl = createHash('sha256').update(readFileSync('/usr/bin/perl')).digest('hex');
    const [line, child] = jsonLines(written, 'processes.jsonl');
    const member = `recovered/${fact('pid')}/exe`;
    expect(line?.executable).toMatchObject({ deleted: true, links: 0, sha256: perl, recovered: member });
    expect(child?.executable).toMatchObject({ sha256: perl, recovered: member });
    expect(written.members.get(member)?.equals(readFileSync('/usr/bin/perl'))).toBe(true);
    expect(written.members.get(`recovered/${fact('pid')}/fd/${fact('memfd')}`)?.toString()).toBe('secret in a memfd\n');
    expect(written.members.get(`recovered/${fact('pid')}/fd/${fact('deleted')}`)?.toString()).toBe(
      'secret in a deleted file\n',
    );
    expect(jsonLines(written, 'recovered.jsonl').map(({ kind }) => kind)).toEqual([
      'executable',
      'descriptor',
      'descriptor',
    ]);
    const file = line?.descriptors?.find(({ fd }) => Number(fd) === fact('deleted'));
    expect(file).toMatchObject({
      type: 'file',
      deleted: true,
      position: 25,
      flags: expect.arrayContaining(['O_RDWR']),
    });
  });

  test('its start time is now, and its namespaces are ours', async () => {
    const before = Date.now();
    await using specimen = await startSpecimen();
    const { context, written } = fakeContext(live, [specimen.fact('pid')]);
    await processesCollector().collect(context);
    const [line] = jsonLines(written, 'processes.jsonl');
    const started = Date.parse(String(line?.startedAt));
    expect(Math.abs(started - before)).toBeLessThan(2000);
    expect(line?.namespaces).toMatchObject({ net: expect.any(Number), pid: expect.any(Number) });
  });

  test('a budget cuts recovered files and says so', async () => {
    await using specimen = await startSpecimen();
    const { context, written } = fakeContext(live, [specimen.fact('pid')]);
    await processesCollector({ budget: { fileBytes: 10, totalBytes: 15 } }).collect(context);
    expect(written.members.get(`recovered/${specimen.fact('pid')}/exe`)).toHaveLength(10);
    expect(written.gaps.map(({ why }) => why)).toEqual([
      expect.stringMatching(/^cut after 10 of \d+ bytes$/),
      expect.stringMatching(/^cut after 5 of 18 bytes$/),
      'the budget of 15 bytes for recovered files is spent',
    ]);
  });
});
