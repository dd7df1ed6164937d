import type { TarHeader, WrittenMember } from '../../../evidence/tar.ts';
import { createTarWriter } from '../../../evidence/tar.ts';
import { MemorySink } from './memory-sink.ts';

const NS = 1_000_000_000n;

export interface Sample {
  readonly header: TarHeader;
  readonly body?: Buffer;
}

const file = (path: string | Uint8Array, body: string, more: Partial<TarHeader> = {}): Sample => ({
  header: { path, type: 'file', sizeBytes: Buffer.byteLength(body), mtimeNs: 1_700_000_000n * NS, ...more },
  body: Buffer.from(body),
});

/** Everything that an ordinary tar writer gets wrong. */
export const SAMPLES: readonly Sample[] = [
  file('plain.txt', 'plain'),
  file('empty', ''),
  file('block', 'x'.repeat(512)),
  file(`long/${'n'.repeat(90)}/${'m'.repeat(60)}`, 'over a hundred bytes'),
  file(`longer/${'a'.repeat(200)}/${'b'.repeat(250)}`, 'over 255 bytes'),
  file('with\nnewline and \t tab', 'control characters'),
  file('ünïcödé-證據', 'unicode'),
  file(Buffer.from([0x62, 0x61, 0x64, 0xff, 0xfe, 0x2e, 0xc3]), 'not UTF-8'),
  file('mode-0', 'no permissions', { mode: 0 }),
  file('setuid', 'root shell', { mode: 0o4755 }),
  file('ids-262144', 'one more than six octal digits', { uid: 262_144, gid: 262_145 }),
  file('ids-userns', 'user namespace', { uid: 2_147_483_648, gid: 4_294_967_294 }),
  file('date-1969', 'before the epoch', { mtimeNs: -NS - NS / 2n }),
  file('date-2039', 'after 2038', { mtimeNs: 2_177_452_800n * NS + 123_456_789n }),
  file('date-2300', 'after eleven octal digits', { mtimeNs: 10_413_792_000n * NS }),
  file('dates', 'three of them', {
    atimeNs: 1_600_000_000n * NS + 1n,
    ctimeNs: 1_600_000_001n * NS + 20n,
    mtimeNs: 5n,
  }),
  file('xattrs', 'attributes', {
    xattrs: new Map([
      ['user.text', Buffer.from('words')],
      ['user.binary', Buffer.from([0, 0xff, 0x0a, 0x3d, 0x00, 0x80])],
      ['security.capability', Buffer.from('0100000200200000000000000000000000000000', 'hex')],
      ['user.empty', Buffer.alloc(0)],
      ['user.with=sign%', Buffer.from('odd name')],
    ]),
  }),
  { header: { path: 'folder', type: 'directory', mode: 0o755, mtimeNs: 1_700_000_000n * NS } },
  { header: { path: 'link', type: 'symlink', linkPath: 'plain.txt' } },
  { header: { path: 'long-link', type: 'symlink', linkPath: `../${'t'.repeat(300)}` } },
  { header: { path: 'odd-link', type: 'symlink', linkPath: Buffer.from([0x74, 0xff, 0x0a]) } },
  { header: { path: 'hard', type: 'hardlink', linkPath: 'plain.txt' } },
  { header: { path: 'pipe', type: 'fifo' } },
  { header: { path: 'null', type: 'character-device', deviceMajor: 1, deviceMinor: 3 } },
  { header: { path: 'disk', type: 'block-device', deviceMajor: 259, deviceMinor: 1_048_575 } },
  file('last', 'the end'),
];

export async function archiveOf(samples: readonly Sample[]): Promise<{ bytes: Buffer; written: WrittenMember[] }> {
  const sink = new MemorySink();
  const tar = createTarWriter(sink);
  const written: WrittenMember[] = [];
  for (const { header, body } of samples) written.push(await tar.add(header, body));
  await tar.end();
  return { bytes: sink.bytes, written };
}
