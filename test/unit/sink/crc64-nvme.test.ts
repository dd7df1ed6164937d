import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { crc64Nvme, joinCrc64Nvme } from '../../../agent/sink/crc64-nvme.ts';

describe('CRC-64/NVME', () => {
  test('of the digits 1 to 9 is the check value of the CRC catalogue', async () => {
    expect((await crc64Nvme(Buffer.from('123456789'))).toString('hex')).toBe('ae8b14860a799888');
  });

  test('of nothing is nothing', async () => {
    expect((await crc64Nvme(Buffer.alloc(0))).toString('hex')).toBe('0000000000000000');
  });

  test('of pieces put together is that of the whole, whatever the pieces are', async () => {
    const bytes = fc.uint8Array({ maxLength: 5000 });
    await fc.assert(
      fc.asyncProperty(bytes, bytes, async (first, second) => {
        const joined = joinCrc64Nvme(await crc64Nvme(first), await crc64Nvme(second), second.length);
        expect(joined.equals(await crc64Nvme(Buffer.concat([first, second])))).toBe(true);
      }),
      { numRuns: 50 },
    );
  });

  test('is the same over the slices that a large part is read in', async () => {
    const part = Buffer.alloc(5 * 2 ** 20 + 3, 'exhibit');
    const [head, tail] = [part.subarray(0, 1_000_001), part.subarray(1_000_001)];
    const joined = joinCrc64Nvme(await crc64Nvme(head), await crc64Nvme(tail), tail.length);
    expect(joined.equals(await crc64Nvme(part))).toBe(true);
  });
});
