import { isUtf8 } from 'node:buffer';
import type { JournaldEntry } from './journald-format.ts';

/**
 * Pure: an entry in systemd's Journal Export Format, as `journalctl -o export` of systemd 252 writes it byte for byte, so that
 * systemd-journal-remote makes a journal of it again.
 */
export function exportEntry(entry: JournaldEntry, seqnumId: string, fields: readonly Buffer[]): Buffer {
  const parts: Buffer[] = [
    Buffer.from(
      `__CURSOR=${cursorOf(entry, seqnumId)}\n__REALTIME_TIMESTAMP=${entry.realtimeUs}\n` +
        `__MONOTONIC_TIMESTAMP=${entry.monotonicUs}\n_BOOT_ID=${entry.bootId}\n`,
    ),
  ];
  for (const field of fields) {
    const equals = field.indexOf(0x3d);
    // The boot is in front.
    if (equals <= 0 || field.toString('latin1', 0, equals) === '_BOOT_ID') continue;
    if (isPrintableLine(field)) parts.push(field, NEWLINE);
    else
      parts.push(
        field.subarray(0, equals),
        NEWLINE,
        le64(field.length - equals - 1),
        field.subarray(equals + 1),
        NEWLINE,
      );
  }
  parts.push(NEWLINE);
  return Buffer.concat(parts);
}

/** journalctl's `__CURSOR`: where the entry is, by itself and by its neighbours' order. */
export function cursorOf(entry: JournaldEntry, seqnumId: string): string {
  const hex = (value: bigint): string => value.toString(16);
  const { seqnum, bootId, monotonicUs, realtimeUs, xorHash } = entry;
  return `s=${seqnumId};i=${hex(seqnum)};b=${bootId};m=${hex(monotonicUs)};t=${hex(realtimeUs)};x=${hex(xorHash)}`;
}

const NEWLINE = Buffer.from('\n');

function le64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

/** utf8_is_printable_newline: UTF-8 without control characters but the tab, and without code points that are no characters. */
function isPrintableLine(bytes: Buffer): boolean {
  if (!isUtf8(bytes)) return false;
  const text = bytes.toString('utf8');
  return !/[\0-\x08\x0a-\x1f\x7f-\x9f]|\p{Noncharacter_Code_Point}/u.test(text);
}
