/** Times as nanoseconds since the epoch, in UTC, before 1970 and beyond 2262 too. */

const NS_PER_SECOND = 1_000_000_000n;

/** What ISO 8601 writes with four digits for the year: 0001-01-01T00:00:00 up to 9999-12-31T23:59:59.999999. */
const FIRST_NS = -62_135_596_800n * NS_PER_SECOND;
const LAST_NS = 253_402_300_799_999_999_000n;

const RFC3339 = /^(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?([Zz]|[+-]\d\d:?\d\d)$/;

/** RFC 3339 with any offset, nine decimals at most (more are cut); undefined for anything else. */
export function parseMoment(text: string): bigint | undefined {
  const parts = RFC3339.exec(text);
  if (parts === null) return undefined;
  const [, date = '', time = '', fraction = '', zone = 'Z'] = parts;
  const ms = Date.parse(`${date}T${time}Z`);
  if (Number.isNaN(ms)) return undefined;
  const local = BigInt(ms) * 1_000_000n + BigInt(fraction.padEnd(9, '0'));
  return local - BigInt(offsetMinutes(zone)) * 60n * NS_PER_SECOND;
}

function offsetMinutes(zone: string): number {
  if (zone === 'Z' || zone === 'z') return 0;
  const minutes = Number(zone.slice(1, 3)) * 60 + Number(zone.slice(-2));
  return zone.startsWith('-') ? -minutes : minutes;
}

/** `ns` in the range of four-digit years; the nearest end of it otherwise. */
export function clampMoment(ns: bigint): bigint {
  if (ns < FIRST_NS) return FIRST_NS;
  return ns > LAST_NS ? LAST_NS : ns;
}

/** Rounded down, also before 1970. */
export function floorDivide(value: bigint, by: bigint): bigint {
  const quotient = value / by;
  return value % by < 0n ? quotient - 1n : quotient;
}

/** `2026-03-01T12:00:00.123456+00:00`, always with six decimals: pandas takes the first row's form for all. */
export function isoMicroseconds(ns: bigint): string {
  const micros = floorDivide(clampMoment(ns), 1000n);
  const ms = floorDivide(micros, 1000n);
  const rest = String(micros - ms * 1000n).padStart(3, '0');
  return `${new Date(Number(ms)).toISOString().slice(0, -1)}${rest}+00:00`;
}

/** Seconds with nine decimals, as the body file has them: `-1.500000000`. */
export function decimalSeconds(ns: bigint): string {
  const magnitude = ns < 0n ? -ns : ns;
  const fraction = String(magnitude % NS_PER_SECOND).padStart(9, '0');
  return `${ns < 0n ? '-' : ''}${magnitude / NS_PER_SECOND}.${fraction}`;
}
