import { describe, expect, test } from 'vitest';
import { admin, caller, context, failure, grant, labDomain } from './lab-domain.ts';

const set = (level: string, forMs = 60_000) => ({ level, forMs });

describe('the log level of the controller', () => {
  test('is set by an admin of everything, and stands in the audit log', async () => {
    await using lab = await labDomain();
    const before = lab.domain.log.level;
    const after = await lab.api.SetLogLevel(set('debug'), context(admin));
    expect(after).toMatchObject({ level: 'debug', usual: before });
    expect(await lab.api.GetLogLevel({}, context(admin))).toEqual(after);
    expect(lab.domain.log.level).toBe('debug');
    const entries = await lab.domain.store.audit({}, { afterSeq: 0, limit: 10 });
    expect(entries).toMatchObject([{ actor: 'ada', action: 'log-level.set' }]);
    expect(JSON.parse(entries[0]?.details ?? '')).toEqual({ from: before, level: 'debug', forMs: 60_000 });
  });

  test.each([
    ['a responder', grant('responder')],
    ['an admin of one cluster', grant('admin', ['prod'])],
    ['an admin of one namespace', grant('admin', ['*'], ['shop'])],
  ])('is nothing for %s', async (_who, given) => {
    await using lab = await labDomain();
    const before = lab.domain.log.level;
    const eve = context(caller('eve', given));
    expect((await failure(lab.api.SetLogLevel(set('trace'), eve))).code).toBe('forbidden');
    expect((await failure(lab.api.GetLogLevel({}, eve))).code).toBe('forbidden');
    expect(lab.domain.log.level).toBe(before);
  });

  test('is not written down where it is none', async () => {
    await using lab = await labDomain();
    expect((await failure(lab.api.SetLogLevel(set('loud'), context(admin)))).code).toBe('usage');
    expect((await failure(lab.api.SetLogLevel(set('debug', 86_400_001), context(admin)))).code).toBe('usage');
    expect(await lab.domain.store.audit({}, { afterSeq: 0, limit: 10 })).toEqual([]);
  });

  test('stays where the audit log cannot be written', async () => {
    await using lab = await labDomain();
    const before = lab.domain.log.level;
    await lab.domain.store[Symbol.asyncDispose]();
    expect((await failure(lab.api.SetLogLevel(set('debug'), context(admin)))).code).not.toBeUndefined();
    expect(lab.domain.log.level).toBe(before);
  });
});
