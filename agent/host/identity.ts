import { readlinkSync } from 'node:fs';
import os from 'node:os';
import type { HostRecord } from '../../evidence/manifest.ts';
import { asHostPath } from '../runtime/runtime.ts';
import { latin1 } from './decode.ts';
import { type Host, procPath, reach } from './host.ts';
import { type ClockDiscipline, readClockDiscipline } from './identity-clock.ts';
import { parseAuxv } from './process-small.ts';
import type { BootClock } from './process-stat.ts';
import { KIB, readBounded, readLink } from './procfs.ts';

/** The node and its clock, for request.json. `now` in milliseconds since the epoch. */
export function hostIdentity(
  host: Host,
  now: () => number,
  discipline: () => ClockDiscipline | undefined = readClockDiscipline,
): HostRecord {
  const clock = readBootClock(host, now);
  return {
    hostname: hostnameOf(host),
    kernel: text(`${host.procRoot}/sys/kernel/osrelease`) ?? os.release(),
    machine: os.machine(),
    bootId: text(`${host.procRoot}/sys/kernel/random/boot_id`) ?? '',
    bootTime: new Date(clock.bootTimeMs).toISOString(),
    clock: { wall: new Date(now()).toISOString(), ...discipline(), timezone: timezoneOf(host) },
  };
}

/** On every architecture that Linux has kept: include/asm-generic/param.h. */
const USER_HZ = 100;

/**
 * The wall clock minus /proc/uptime, exact to 10 ms; where there is no uptime, `btime` of /proc/stat, exact to a second.
 * Both are of the initial time namespace, as the start times in /proc/PID/stat are for a reader in it.
 */
export function readBootClock(host: Host, now: () => number): BootClock {
  return { bootTimeMs: bootTimeMs(host, now), ticksPerSecond: ticksPerSecond() };
}

function bootTimeMs(host: Host, now: () => number): number {
  const uptime = /^(\d{1,12}\.\d{1,9}) /.exec(text(`${host.procRoot}/uptime`) ?? '')?.[1];
  if (uptime !== undefined) return Math.round(now() - Number(uptime) * 1000);
  const btime = /^btime (\d{1,12})$/m.exec(text(`${host.procRoot}/stat`) ?? '')?.[1];
  return btime === undefined ? Math.round(now() - os.uptime() * 1000) : Number(btime) * 1000;
}

/** AT_CLKTCK of our own auxiliary vector, which is where libc's sysconf(_SC_CLK_TCK) takes it from. */
function ticksPerSecond(): number {
  const auxv = readBounded('/proc/self/auxv', 4 * KIB);
  const ticks = auxv.kind === 'read' ? Number(parseAuxv(auxv.bytes).get('ticksPerSecond') ?? 0n) : 0;
  return ticks > 0 ? ticks : USER_HZ;
}

/** With a UTS namespace of its own (a pod without hostNetwork) the agent's hostname is the pod's, not the node's. */
function hostnameOf(host: Host): string {
  const mine = readLink('/proc/self/ns/uts');
  const inits = readLink(procPath(host, 1, 'ns', 'uts'));
  const same = mine.kind === 'read' && inits.kind === 'read' && mine.bytes.equals(inits.bytes);
  const written = same ? undefined : text(reach(host, asHostPath('/etc/hostname')))?.split('\n', 1)[0];
  return written === undefined || written === '' ? os.hostname() : written;
}

/** The name below zoneinfo that /etc/localtime links to; UTC when there is no such link (localtime(5)). */
function timezoneOf(host: Host): string {
  try {
    const link = readlinkSync(reach(host, asHostPath('/etc/localtime')), 'utf8');
    return /zoneinfo\/(?:posix\/|right\/)?([A-Za-z0-9_+/-]+)$/.exec(link)?.[1] ?? 'UTC';
  } catch {
    return 'UTC';
  }
}

function text(path: string): string | undefined {
  const reading = readBounded(path, 64 * KIB);
  return reading.kind === 'read' ? latin1(reading.bytes).trim() : undefined;
}

/** What CLOCK_MONOTONIC lacks to the wall clock, in microseconds: for times that the kernel counts since boot. */
export function wallMinusMonotonicUs(now: () => number): bigint {
  return BigInt(Math.round(now())) * 1000n - process.hrtime.bigint() / 1000n;
}
