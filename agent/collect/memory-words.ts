import type { AddressRange } from '../../evidence/elfcore.ts';

/** What two ranges have in common; undefined: nothing. */
export function overlap(a: AddressRange, b: AddressRange): AddressRange | undefined {
  let { start, end } = a;
  if (b.start > start) start = b.start;
  if (b.end < end) end = b.end;
  return start < end ? { start, end } : undefined;
}

/** Addresses as the records have them. */
export function hex(value: bigint): string {
  return `0x${value.toString(16)}`;
}
