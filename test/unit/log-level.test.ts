import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { openLogLevels } from '../../agent/log-level.ts';
import { isExhibitError } from '../../evidence/error.ts';

function logged(level = 'info') {
  const lines: { msg: string; level: string | number; by?: string; from?: string }[] = [];
  const log = pino({ level }, { write: (line: string) => void lines.push(JSON.parse(line)) });
  return { log, lines, words: () => lines.map(({ msg }) => msg) };
}

describe('a log level', () => {
  beforeEach(() => void vi.useFakeTimers({ now: 1_000_000 }));
  afterEach(() => void vi.useRealTimers());

  test('changes the log, its children and theirs, those that were there before too', () => {
    const { log, words } = logged();
    const child = log.child({ captureId: 'c' });
    const grandchild = child.child({ artifact: 'memory' });
    const levels = openLogLevels(log);
    for (const one of [log, child, grandchild]) one.debug('before');
    levels.set('debug', 60_000, 'root');
    for (const one of [log, child, grandchild, child.child({ later: true })]) one.debug('between');
    levels.set('error', 60_000, 'root');
    for (const one of [log, child, grandchild, child.child({ later: true })]) one.warn('after');
    expect(words()).toEqual(['log level set', ...Array(4).fill('between'), 'log level set']);
  });

  test('falls back by itself, to what it was at the start and not to what it was before', () => {
    const { log, words } = logged();
    const child = log.child({});
    const levels = openLogLevels(log);
    levels.set('trace', 60_000, 'root');
    vi.advanceTimersByTime(30_000);
    levels.set('debug', 60_000, 'root');
    vi.advanceTimersByTime(59_999);
    expect(levels.now()).toEqual({ level: 'debug', usual: 'info', untilMs: 1_090_000 });
    vi.advanceTimersByTime(1);
    child.debug('not told');
    expect(levels.now()).toEqual({ level: 'info', usual: 'info', untilMs: 0 });
    expect(words()).toEqual(['log level set', 'log level set', 'the usual log level is back']);
  });

  test('lasts ten minutes unless told', () => {
    const levels = openLogLevels(logged().log);
    expect(levels.set('debug', 0, 'root').untilMs).toBe(1_000_000 + 600_000);
  });

  test('is the usual one at once when that is asked for, and nothing falls back later', () => {
    const { log, words } = logged();
    const levels = openLogLevels(log);
    levels.set('debug', 60_000, 'root');
    expect(levels.set('info', 60_000, 'root')).toEqual({ level: 'info', usual: 'info', untilMs: 0 });
    vi.advanceTimersByTime(600_000);
    expect(words()).toEqual(['log level set', 'log level set']);
  });

  test('is told of with who set it, also where neither level would tell', () => {
    const { log, lines } = logged('fatal');
    openLogLevels(log).set('error', 60_000, 'uid 0, gid 0, pid 7');
    expect(lines).toMatchObject([{ msg: 'log level set', from: 'fatal', level: 'error', by: 'uid 0, gid 0, pid 7' }]);
    expect(log.level).toBe('error');
  });

  test.each([
    ['loud', 0],
    ['', 0],
    ['silent', 0],
    ['debug', 86_400_001],
    ['debug', -1],
    ['debug', 1.5],
    ['debug', Number.NaN],
  ])('is refused where it is %j for %d ms', (level, forMs) => {
    const { log, lines } = logged();
    const levels = openLogLevels(log);
    for (const attempt of [() => levels.set(level, forMs, 'root'), () => levels.check(level, forMs)])
      expect(attempt).toThrow(expect.toSatisfy((error) => isExhibitError(error, 'usage')));
    expect([log.level, lines]).toEqual(['info', []]);
  });
});
