/** The LZ4 block format (lz4_Block_format.md): sequences of a token, literals, and a match that is copied from what came before. */

const MIN_MATCH = 4;

/** Exactly `sizeBytes` bytes, or undefined for a block that does not give them. Never reads or writes beyond its buffers. */
export function decodeLz4Block(block: Uint8Array, sizeBytes: number): Buffer | undefined {
  const out = Buffer.allocUnsafe(sizeBytes);
  let [at, done] = [0, 0];
  /** A length of 15 goes on in bytes, up to the first that is not 255. NaN beyond the end. */
  const lengthOf = (nibble: number): number => {
    let length = nibble;
    for (let more = nibble === 15 ? 255 : 0; more === 255; length += more) {
      const next = block[at];
      if (next === undefined) return Number.NaN;
      more = next;
      at += 1;
    }
    return length;
  };
  while (at < block.length) {
    const token = block[at] ?? 0;
    at += 1;
    const literals = lengthOf(token >> 4);
    if (!(at + literals <= block.length && done + literals <= sizeBytes)) return undefined;
    out.set(block.subarray(at, at + literals), done);
    at += literals;
    done += literals;
    // The last sequence is literals alone.
    if (at === block.length) return done === sizeBytes ? out : undefined;
    const distance = (block[at] ?? 0) | ((block[at + 1] ?? 0) << 8);
    at += 2;
    const length = lengthOf(token & 15) + MIN_MATCH;
    if (!(distance > 0 && distance <= done && done + length <= sizeBytes)) return undefined;
    // A match may reach into itself, which repeats it: byte by byte.
    for (const end = done + length; done < end; done += 1) out[done] = out[done - distance] ?? 0;
  }
  return undefined;
}
