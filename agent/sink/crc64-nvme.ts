import { setImmediate as nextTurn } from 'node:timers/promises';
import { Crc64Nvme } from '@aws-sdk/checksums/crc';

/**
 * CRC-64/NVME, S3's checksum over a whole object (User Guide, "Checking object integrity"): polynomial 0xad93d23594c93659, bits
 * reflected, all ones before and after. The bytes are read by the SDK's own code; here is what it has not: the checksum of
 * two pieces put together from theirs, so that parts which go in parallel still give that of the object.
 */

/** The polynomial as the reflected registers hold it: bit 63 is x^0. */
const POLYNOMIAL = 0x9a6c9329ac4bc9b5n;
const ONE = 1n << 63n;
const BITS = 64n;

/** 5 ms of work at the 400 MB/s of the SDK's JavaScript: other captures go on in between. */
const SLICE_BYTES = 2 * 2 ** 20;

/** The checksum as eight bytes, big endian, as S3 has it in base64. */
export async function crc64Nvme(bytes: Uint8Array): Promise<Buffer> {
  const checksum = new Crc64Nvme();
  for (let at = 0; at < bytes.length; at += SLICE_BYTES) {
    if (at > 0) await nextTurn();
    checksum.update(bytes.subarray(at, at + SLICE_BYTES));
  }
  return Buffer.from(await checksum.digest());
}

/** The checksum of `first` followed by `second`, of which the checksums and the second's length are known. Pure. */
export function joinCrc64Nvme(first: Buffer, second: Buffer, secondBytes: number): Buffer {
  const shifted = multiply(first.readBigUInt64BE(), powerOfX(BigInt(secondBytes) * 8n));
  const joined = Buffer.alloc(8);
  joined.writeBigUInt64BE(shifted ^ second.readBigUInt64BE());
  return joined;
}

/** x^exponent modulo the polynomial, by squaring. */
function powerOfX(exponent: bigint): bigint {
  let power = ONE;
  let square = ONE >> 1n;
  for (let rest = exponent; rest > 0n; rest >>= 1n) {
    if ((rest & 1n) === 1n) power = multiply(power, square);
    square = multiply(square, square);
  }
  return power;
}

/** The product of two reflected polynomials, modulo the polynomial. */
function multiply(one: bigint, other: bigint): bigint {
  let product = 0n;
  let shifted = other;
  for (let bit = BITS - 1n; bit >= 0n; bit -= 1n) {
    if (((one >> bit) & 1n) === 1n) product ^= shifted;
    shifted = (shifted & 1n) === 1n ? (shifted >> 1n) ^ POLYNOMIAL : shifted >> 1n;
  }
  return product;
}
