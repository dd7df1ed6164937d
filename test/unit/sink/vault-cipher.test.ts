import { createDecipheriv, randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { nodeRecord, openNativeRecord } from '../../../agent/sink/vault-cipher.ts';

const KEY = randomBytes(32);
const NONCE = randomBytes(12);
const PLACE = Buffer.from('objects/default/ab/1\u00000');

async function sealed(begin: typeof nodeRecord, pieces: readonly Uint8Array[]): Promise<{ all: Buffer; tag: Buffer }> {
  using cipher = begin(KEY, NONCE, PLACE);
  const room = Buffer.alloc(70_000);
  const out: Buffer[] = [];
  for (const piece of pieces) out.push(Buffer.from(await cipher.next(piece, room)));
  return { all: Buffer.concat(out), tag: cipher.tag() };
}

function unsealed({ all, tag }: { all: Buffer; tag: Buffer }): Buffer {
  const decipher = createDecipheriv('aes-256-gcm', KEY, NONCE).setAAD(PLACE).setAuthTag(tag);
  return Buffer.concat([decipher.update(all), decipher.final()]);
}

describe('the cipher of a record', () => {
  it.each([[0], [1], [15], [16, 17], [65_536, 65_536, 3]])(
    'gives the same bytes on threads as on the own one, for pieces of %s and more bytes',
    async (...sizes) => {
      const pieces = sizes.map((size) => randomBytes(size));
      const native = await sealed(openNativeRecord(), pieces);
      expect(native).toEqual(await sealed(nodeRecord, pieces));
      expect(unsealed(native).equals(Buffer.concat(pieces))).toBe(true);
    },
  );

  it('refuses a piece that its room does not hold', async () => {
    using cipher = openNativeRecord()(KEY, NONCE, PLACE);
    await expect(cipher.next(Buffer.alloc(17), Buffer.alloc(16))).rejects.toMatchObject({ code: 'internal' });
  });

  it('cannot be had from a program that lacks it', () => {
    expect(() => openNativeRecord('libm.so.6')).toThrow();
  });
});
