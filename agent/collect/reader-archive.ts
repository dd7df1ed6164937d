import { explain } from '../../evidence/error.ts';
import { type JsonLinesPart, jsonLinesParts } from '../host/decode-jsonl.ts';
import type { ProcfsReader } from '../host/procfs-reader.ts';
import type { Reply, Request } from '../host/procfs-request.ts';
import type { Archive, CollectContext } from './collector.ts';

/** An archive that is filled with what a reader process reads. */
export interface ReaderArchive {
  readonly context: CollectContext;
  readonly reader: ProcfsReader;
  readonly archive: Archive;
}

/** Replies one by one; a reader that had to be given up is a gap called `what`, and what came before stays. */
export async function asking(
  { context, reader }: Pick<ReaderArchive, 'context' | 'reader'>,
  request: Request,
  what: string,
  take: (reply: Reply) => void,
): Promise<void> {
  try {
    for await (const reply of reader.ask(request, context.signal)) take(reply);
  } catch (error) {
    if (context.signal.aborted) throw error;
    context.gap({ what, why: `reading it was given up: ${explain(error)}` });
  }
}

export async function addFile(work: ReaderArchive, path: string, bytes: Uint8Array, mtimeNs?: bigint): Promise<void> {
  await work.archive.add(
    { path, type: 'file', sizeBytes: bytes.length, mode: 0o400, mtimeNs: mtimeNs ?? nowNs(work) },
    bytes,
  );
}

export async function addLines(work: ReaderArchive, name: string, values: Iterable<unknown>): Promise<void> {
  for (const part of jsonLinesParts(name, values)) await endPart(work, part);
}

export async function endPart(work: ReaderArchive, part: JsonLinesPart | undefined): Promise<void> {
  if (part === undefined) return;
  const { path, sizeBytes, pieces } = part;
  await work.archive.add({ path, type: 'file', sizeBytes, mode: 0o400, mtimeNs: nowNs(work) }, pieces);
}

function nowNs({ context }: ReaderArchive): bigint {
  return BigInt(Math.trunc(context.now())) * 1_000_000n;
}
