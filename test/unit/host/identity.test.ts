import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { hostIdentity, readBootClock } from '../../../agent/host/identity.ts';
import { parseTimex, readClockDiscipline } from '../../../agent/host/identity-clock.ts';
import { hostSchema } from '../../../evidence/manifest.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'exhibit-identity-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A node's root with its own /proc, as a DaemonSet sees it. */
function fakeNode(name: string, files: Record<string, string>): { procRoot: string; hostRoot: string } {
  const hostRoot = path.join(folder, name);
  for (const [file, text] of Object.entries(files)) {
    mkdirSync(path.dirname(path.join(hostRoot, file)), { recursive: true });
    writeFileSync(path.join(hostRoot, file), text);
  }
  return { procRoot: `${hostRoot}/proc`, hostRoot };
}

describe('the identity of the node', () => {
  test('is what the manifest asks for', () => {
    const host = { procRoot: '/proc', hostRoot: '' };
    const identity = hostSchema.parse(hostIdentity(host, Date.now));
    expect(identity.kernel).toBe(execFileSync('uname', ['-r'], { encoding: 'utf8' }).trim());
    expect(identity.machine).toBe(execFileSync('uname', ['-m'], { encoding: 'utf8' }).trim());
    expect(identity.bootId).toMatch(/^[0-9a-f-]{36}$/);
    const btime = Number(/^btime (\d+)$/m.exec(readFileSync('/proc/stat', 'utf8'))?.[1]) * 1000;
    expect(Math.abs(Date.parse(identity.bootTime) - btime)).toBeLessThan(2000);
  });

  test("is the node's and not the pod's: name, zone and kernel come from below the roots", () => {
    const host = fakeNode('node', {
      'etc/hostname': 'ip-10-0-0-1\n',
      'proc/uptime': '100.50 1.0\n',
      'proc/sys/kernel/osrelease': '6.12.0-eks\n',
      'proc/sys/kernel/random/boot_id': 'b\n',
    });
    symlinkSync('../usr/share/zoneinfo/Europe/Vienna', `${host.hostRoot}/etc/localtime`);
    const identity = hostIdentity(
      host,
      () => Date.UTC(2026, 0, 1),
      () => undefined,
    );
    expect(identity).toMatchObject({
      hostname: 'ip-10-0-0-1',
      kernel: '6.12.0-eks',
      bootId: 'b',
      bootTime: '2025-12-31T23:58:19.500Z',
    });
    expect(identity.clock).toEqual({ wall: '2026-01-01T00:00:00.000Z', timezone: 'Europe/Vienna' });
  });

  test('without an uptime the boot time comes from btime', () => {
    const host = fakeNode('old', { 'proc/stat': 'cpu 1 2\nbtime 1700000000\n' });
    expect(readBootClock(host, Date.now)).toEqual({ bootTimeMs: 1_700_000_000_000, ticksPerSecond: 100 });
  });
});

describe('the clock', () => {
  test('is unsynchronised when the kernel says so in either way', () => {
    const timex = Buffer.alloc(208);
    timex.writeBigInt64LE(16n, 32);
    expect(parseTimex(timex, 0)).toEqual({ synchronised: true, estimatedErrorUs: 16 });
    expect(parseTimex(timex, 5)).toMatchObject({ synchronised: false });
    timex.writeInt32LE(0x40, 40);
    expect(parseTimex(timex, 0)).toMatchObject({ synchronised: false });
    expect(parseTimex(timex, -1)).toBeUndefined();
  });

  test.skipIf(process.platform !== 'linux')('can be asked on this machine (skipped off Linux)', () => {
    expect(readClockDiscipline()).toEqual({ synchronised: expect.any(Boolean), estimatedErrorUs: expect.any(Number) });
  });
});
