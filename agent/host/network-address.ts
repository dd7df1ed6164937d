/** Addresses as /proc/net prints them, and as people read them. */

/**
 * IPv4 as /proc/net/tcp and route print it: the 32-bit word in host order, so on a little-endian machine (both of EKS'
 * architectures) the bytes are reversed: `0100007F` is 127.0.0.1.
 */
export function ipv4FromWord(hexWord: string): string | undefined {
  if (!/^[0-9A-Fa-f]{8}$/.test(hexWord)) return undefined;
  return Buffer.from(hexWord, 'hex').reverse().join('.');
}

/** IPv6 as /proc/net/tcp6 prints it: four 32-bit words in host order. */
export function ipv6FromWords(hexWords: string): string | undefined {
  if (!/^[0-9A-Fa-f]{32}$/.test(hexWords)) return undefined;
  return formatIpv6(Buffer.from(hexWords, 'hex').swap32());
}

/** IPv6 as /proc/net/if_inet6 and ipv6_route print it: sixteen bytes in network order. */
export function ipv6FromBytes(hexBytes: string): string | undefined {
  return /^[0-9A-Fa-f]{32}$/.test(hexBytes) ? formatIpv6(Buffer.from(hexBytes, 'hex')) : undefined;
}

/** RFC 5952: lower case, the longest run of zeros as `::`; an IPv4-mapped address with dots (section 5). */
export function formatIpv6(bytes: Uint8Array): string {
  const view = new DataView(bytes.buffer, bytes.byteOffset, 16);
  const groups = Array.from({ length: 8 }, (_, index) => view.getUint16(index * 2));
  if (groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff) {
    return `::ffff:${bytes.subarray(12, 16).join('.')}`;
  }
  const run = longestZeros(groups);
  const words = groups.map((group) => group.toString(16));
  if (run.length < 2) return words.join(':');
  return `${words.slice(0, run.start).join(':')}::${words.slice(run.start + run.length).join(':')}`;
}

/** The first of the longest. */
function longestZeros(groups: readonly number[]): { start: number; length: number } {
  let best = { start: 0, length: 0 };
  let start = 0;
  groups.forEach((group, index) => {
    if (group !== 0) start = index + 1;
    else if (index + 1 - start > best.length) best = { start, length: index + 1 - start };
  });
  return best;
}

/** Bits of a netmask, for `route`. */
export function prefixLength(mask: string): number {
  return mask.split('.').reduce((bits, octet) => bits + Number(octet).toString(2).replaceAll('0', '').length, 0);
}

/** Whether an IPv4 address is in a network. */
export function inNetwork(address: string, network: string, mask: string): boolean {
  const [a, n, m] = [address, network, mask].map((text) =>
    text.split('.').reduce((word, octet) => word * 256 + Number(octet), 0),
  );
  if (a === undefined || n === undefined || m === undefined) return false;
  return (BigInt(a) & BigInt(m)) === BigInt(n);
}
