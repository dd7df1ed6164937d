import { describe, expect, test } from 'vitest';
import { packageVersion } from '../../../cli/version.ts';
import { apartWords, skewOf } from '../../../proto/compatibility.ts';
import { Patience } from '../../../proto/patience.ts';

describe('two releases', () => {
  test.each([
    ['0.1.0', '0.1.9', 'same'],
    ['0.1.0', '0.1.0-rc.1+3f2a', 'same'],
    ['0.1.0', '0.2.3', 'near'],
    ['0.10.0', '0.9.1', 'near'],
    ['0.1.0', '0.3.0', 'far'],
    ['1.0.0', '0.9.0', 'far'],
    ['2.1.0', '1.1.0', 'far'],
    ['test', '0.1.0', 'unknown'],
    ['', '0.1.0', 'unknown'],
    ['0.1', '0.1.0', 'unknown'],
    ['0.1.0x', '0.1.0', 'unknown'],
    ['v0.1.0', '0.1.0', 'unknown'],
    ['99999999.0.0', '0.1.0', 'unknown'],
  ])('%s and %s are %s', (one, other, skew) => {
    expect(skewOf(one, other)).toBe(skew);
    expect(skewOf(other, one)).toBe(skew);
  });

  test('that are too far apart are told in words that name the older', () => {
    const words = 'the agent is 0.1.4 and the controller 0.3.0, more than one minor version apart: update the agent';
    const [agent, controller] = [
      { name: 'agent', version: '0.1.4' },
      { name: 'controller', version: '0.3.0' },
    ];
    expect(apartWords(agent, controller)).toBe(words);
    expect(apartWords(controller, agent)).toBe(words);
    expect(apartWords({ ...agent, version: '1.0.0' }, controller)).toContain('update the controller');
  });

  test('that are near, or of which nothing is known, are not', () => {
    const end = (name: string, version: string) => ({ name, version });
    expect(apartWords(end('agent', '0.1.0'), end('controller', '0.2.0'))).toBeUndefined();
    expect(apartWords(end('agent', '\u001b[31m9.9.9'), end('controller', '0.2.0'))).toBeUndefined();
  });

  test('have numbers of which this program’s own is one', () => {
    expect(skewOf(packageVersion(), packageVersion())).toBe('same');
  });
});

describe('the patience with messages that are not known', () => {
  test('ends with the 601st of a minute, and begins anew with the next', () => {
    const patience = new Patience();
    const bears = (count: number, atMs: number) => Array.from({ length: count }, () => patience.bears(atMs));
    expect(bears(600, 0)).not.toContain(false);
    expect(patience.bears(59_999)).toBe(false);
    expect(bears(600, 60_000)).not.toContain(false);
    expect(patience.bears(60_001)).toBe(false);
  });

  test('begins anew when the clock is set back', () => {
    const patience = new Patience();
    for (let count = 0; count < 601; count += 1) patience.bears(1e12);
    expect(patience.bears(1e12)).toBe(false);
    expect(patience.bears(0)).toBe(true);
  });
});
