import { hash } from 'node:crypto';

/** By what agents tell which pods they have: the first four bytes of SHA-256 over `NAMESPACE/POD`, as a number. */
export function podDigest(namespace: string, pod: string): number {
  return hash('sha256', `${namespace}/${pod}`, 'buffer').readUInt32BE(0);
}
