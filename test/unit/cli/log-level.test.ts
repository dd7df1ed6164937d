import { describe, expect, test, vi } from 'vitest';
import { startFakeAgent } from './fake-agent.ts';
import { exhibit, TEST_TIMEOUT_MS } from './run.ts';

vi.setConfig({ testTimeout: TEST_TIMEOUT_MS });

const UNTIL = { level: 'debug', usual: 'info', untilMs: 1772366400000 };

describe('log-level', () => {
  test('sets one for a while and says until when', async () => {
    await using agent = await startFakeAgent({ logLevel: UNTIL });
    const ran = await exhibit(['log-level', 'debug', '--for', '10m', '--socket', agent.socket]);
    expect(ran.stdout.toString()).toBe('debug until 2026-03-01T12:00:00.000Z, then info again\n');
    expect(agent.requests).toEqual([{ call: 'SetLogLevel', message: { level: 'debug', forMs: 600_000 } }]);
  });

  test('shows it without a level', async () => {
    await using agent = await startFakeAgent({ logLevel: { level: 'info', usual: 'info', untilMs: 0 } });
    const ran = await exhibit(['log-level', '--json', '--socket', agent.socket]);
    expect(JSON.parse(ran.stdout.toString())).toEqual({ level: 'info', usual: 'info' });
    expect(agent.requests).toEqual([{ call: 'GetLogLevel', message: {} }]);
  });

  test.each(['10', 'ten', '0s', '25h', '-1m', '1.5h', '10m10s'])('refuses %s as a time', async (time) => {
    const ran = await exhibit(['log-level', 'debug', `--for=${time}`, '--socket', '/nonexistent']);
    expect([ran.code, ran.stderr]).toEqual([2, expect.stringContaining('10m')]);
  });

  test('refuses a time without a level', async () => {
    const ran = await exhibit(['log-level', '--for', '5m', '--socket', '/nonexistent']);
    expect([ran.code, ran.stderr]).toEqual([2, expect.stringContaining('--for')]);
  });
});
