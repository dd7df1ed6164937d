import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pino } from 'pino';
import { v7 as uuidv7 } from 'uuid';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { LocalBundle } from '../../../agent/sink/local-bundles.ts';
import { createKeeper, surplusOf } from '../../../agent/trigger/schedule-keep.ts';
import { scheduleSchema } from '../../../agent/trigger/schedule-options.ts';
import { manifestSchema, requestSchema } from '../../../evidence/manifest.ts';

const tickOf = (hour: number): string => new Date(Date.parse('2026-05-01T00:00:00Z') + hour * 3_600_000).toISOString();

function bundle(hour: number, name = 'web-0', outcome: LocalBundle['outcome'] = 'complete'): LocalBundle {
  const request = {
    schedule: { name: 'base', tick: tickOf(hour) },
    target: { name: 'web', pod: { namespace: 'prod', name } },
  };
  return { captureId: `${hour}-${name}`, request: request as LocalBundle['request'], outcome };
}

describe('what is more than a schedule keeps', () => {
  test('is everything but the newest runs, whole runs at a time', () => {
    const bundles = [3, 1, 2, 4].flatMap((hour) => [bundle(hour, 'a'), bundle(hour, 'b')]);
    expect(surplusOf(bundles, { keep: 2, found: ['prod/a/web', 'prod/b/web'] })).toEqual(['1-b', '1-a', '2-b', '2-a']);
  });

  test('is nothing while there are no more runs than that, or no good one', () => {
    expect(surplusOf([bundle(1), bundle(2)], { keep: 2, found: [] })).toEqual([]);
    expect(
      surplusOf(
        [1, 2, 3].map((hour) => bundle(hour, 'a', 'truncated')),
        { keep: 1, found: [] },
      ),
    ).toEqual([]);
  });

  test('is never the last good one, though worse ones came after it', () => {
    const bundles = [bundle(1), bundle(2, 'web-0', 'truncated'), bundle(3, 'web-0', 'cancelled')];
    expect(surplusOf(bundles, { keep: 1, found: [] })).toEqual([]);
    // Bad runs do not count as runs that are kept.
    expect(surplusOf([bundle(0), ...bundles], { keep: 1, found: [] })).toEqual(['0-web-0']);
  });

  test('is never the last good one of a target that is still there', () => {
    const bundles = [bundle(1, 'a'), bundle(2, 'b'), bundle(3, 'b'), bundle(3, 'a', 'truncated'), bundle(4, 'b')];
    expect(surplusOf(bundles, { keep: 1, found: ['prod/a/web', 'prod/b/web'] })).toEqual(['2-b', '3-a', '3-b']);
    expect(surplusOf(bundles, { keep: 1, found: ['prod/b/web'] })).toContain('1-a');
  });
});

describe('removing from a folder sink', () => {
  let root: string;
  beforeEach(() => {
    root = mkdtempSync(path.join(tmpdir(), 'exhibit-keep-'));
  });
  afterEach(() => rmSync(root, { recursive: true, force: true }));

  const schedule = scheduleSchema.parse({ name: 'base', cron: '0 * * * *', keep: 2, selector: { pods: ['*'] } });
  const keeper = () => createKeeper({ places: [{ root, cluster: 'lab', node: 'n' }], log: pino({ enabled: false }) });
  const folderOf = (captureId: string) => path.join(root, 'lab', 'n', captureId);

  /** As far as the agent looks at one. */
  function seal(hour: number, over: Record<string, unknown> = {}): string {
    const captureId = uuidv7();
    const target = {
      ...{ kind: 'container', runtime: 'containerd', id: 'abcd', name: 'web', labels: {}, initPid: 1, pids: [1] },
      pod: { namespace: 'prod', name: 'web-0', uid: 'u', sandboxId: 's' },
    };
    const agent = { name: 'exhibit', version: '0', nodeVersion: 'v24', pid: 1, keyId: 'a'.repeat(64) };
    const request = {
      ...{ formatVersion: 1, captureId, cluster: 'lab', node: 'n', requestedAt: tickOf(hour), selector: 'abcd' },
      ...{ requester: { trigger: 'schedule', identity: 'base' }, schedule: { name: 'base', tick: tickOf(hour) } },
      ...{ artifacts: ['processes'], runtime: { name: 'containerd', version: '2' }, target, agent },
      plan: { steps: [], consistency: 'live', scope: 'container', freezeDeadlineMs: 1, bufferBytes: 0 },
      host: {
        ...{ hostname: 'n', kernel: 'k', machine: 'x86_64', bootId: 'b', bootTime: tickOf(0) },
        clock: { wall: tickOf(hour), timezone: 'UTC' },
      },
      ...over,
    };
    const manifest = {
      ...{ formatVersion: 1, captureId, cluster: 'lab', node: 'n', outcome: 'complete', target, agent },
      ...{ startedAt: tickOf(hour), finishedAt: tickOf(hour), artifacts: [], objects: [], nodeBytesWritten: 0 },
      freeze: { consistency: 'live', method: 'none', pauseMs: 0, notes: [] },
    };
    mkdirSync(folderOf(captureId), { recursive: true });
    const write = (name: string, content: unknown) =>
      writeFileSync(path.join(folderOf(captureId), name), JSON.stringify(content));
    write('request.json', requestSchema.parse(request));
    write('manifest.json', manifestSchema.parse(manifest));
    write('manifest.dsse.json', {});
    write('processes.tar.zst', {});
    return captureId;
  }

  const left = () => readdirSync(path.join(root, 'lab', 'n')).sort();

  test('takes the bundles of that schedule that are too old, and nothing else', async () => {
    const mine = [1, 2, 3, 4].map((hour) => seal(hour));
    const incident = seal(0, { requester: { trigger: 'socket', identity: 'base' }, schedule: undefined });
    const liar = seal(0, { requester: { trigger: 'folder', identity: 'base' } });
    const other = seal(0, {
      ...{ requester: { trigger: 'schedule', identity: 'other' }, schedule: { name: 'other', tick: tickOf(0) } },
    });
    const foreign = seal(0, { node: 'another' });
    const moved = seal(0, { captureId: uuidv7() });
    await keeper()(schedule, ['prod/web-0/web']);
    expect(left()).toEqual([...mine.slice(2), incident, liar, other, foreign, moved].sort());
  });

  test('leaves what is not sealed, and what holds a link or a folder', async () => {
    const [unsealed = '', linked = '', deep = '', ...kept] = [1, 2, 3, 4, 5].map((hour) => seal(hour));
    rmSync(path.join(folderOf(unsealed), 'manifest.dsse.json'));
    const precious = path.join(root, 'precious');
    writeFileSync(precious, 'x');
    symlinkSync(precious, path.join(folderOf(linked), 'more'));
    mkdirSync(path.join(folderOf(deep), 'more'));
    await keeper()(schedule, []);
    expect(left()).toEqual([unsealed, linked, deep, ...kept].sort());
    expect(readdirSync(folderOf(linked))).toContain('manifest.dsse.json');
    expect(existsSync(precious)).toBe(true);
  });

  test('follows no link on the way, and takes nothing for a bundle that has no id', async () => {
    const old = [1, 2, 3].map((hour) => seal(hour));
    const elsewhere = path.join(root, 'elsewhere');
    mkdirSync(elsewhere);
    rmSync(path.join(root, 'lab', 'm'), { force: true });
    symlinkSync(path.join(root, 'lab', 'n'), path.join(root, 'lab', 'm'));
    const through = createKeeper({ places: [{ root, cluster: 'lab', node: 'm' }], log: pino({ enabled: false }) });
    await through(schedule, []);
    expect(left()).toEqual([...old].sort());
    mkdirSync(folderOf('not-an-id'));
    await keeper()(schedule, []);
    expect(left()).toEqual([...old.slice(1), 'not-an-id'].sort());
  });

  test('spares what something still needs, and removes nothing without keep', async () => {
    const ids = [1, 2, 3].map((hour) => seal(hour));
    await keeper()({ ...schedule, keep: undefined }, []);
    const places = [{ root, cluster: 'lab', node: 'n' }];
    await createKeeper({ places, isNeeded: (id) => id === ids[0], log: pino({ enabled: false }) })(schedule, []);
    expect(left()).toEqual([...ids].sort());
  });
});
