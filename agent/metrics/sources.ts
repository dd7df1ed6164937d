import { memoryRoom } from '../host/memory-room.ts';
import { spoolLimit } from '../sink/spool-room.ts';
import type { Vault } from '../sink/vault.ts';

/** What the spool holds, and may hold now. */
export async function spoolRoom(
  { inMemory, usedBytes }: Pick<Vault, 'inMemory' | 'usedBytes'>,
  configuredBytes: number,
) {
  return { usedBytes, limitBytes: spoolLimit(configuredBytes, usedBytes, inMemory ? await memoryRoom() : undefined) };
}

/** Names of the sinks that are S3. */
export const s3SinksOf = (
  sinks: readonly { readonly name: string; readonly sink: { readonly url: string } }[],
): string[] => sinks.filter(({ sink }) => sink.url.startsWith('s3:')).map(({ name }) => name);
