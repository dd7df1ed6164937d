import { explain } from '../../evidence/error.ts';
import type { FileIdentity } from './procfs.ts';
import { type ProcfsReader, StalledError } from './procfs-reader.ts';
import type { ContentSource, DigestReading, Reply } from './procfs-request.ts';

export interface Refusal {
  readonly kind: 'refused';
  readonly why: string;
  readonly errno?: string;
  /** The reader process stood still over it, and was ended. */
  readonly stalled?: true;
}

export type FileDigest = { readonly kind: 'digest' } & DigestReading;

/** SHA-256 of what a process holds, in the reader process: only the digest crosses the pipe. */
export async function digestOf(
  reader: ProcfsReader,
  source: ContentSource,
  limitBytes: number,
  signal: AbortSignal,
): Promise<FileDigest | Refusal> {
  let result: FileDigest | Refusal = { kind: 'refused', why: 'the reader gave no answer' };
  try {
    for await (const reply of reader.ask({ kind: 'digest', source, limitBytes }, signal)) {
      if (reply.kind === 'digest') result = reply;
      if (reply.kind === 'refused') result = refusalOf(reply);
    }
  } catch (error) {
    result = stalled(error, signal);
  }
  return result;
}

/** Content on its way. `chunks` must be read to its end, or given back with `return`, before the reader is asked again. */
export interface OpenContent {
  readonly kind: 'opened';
  readonly identity: FileIdentity;
  readonly chunks: AsyncGenerator<Uint8Array>;
  /** Why the content ended early; known when `chunks` is done. */
  readonly failure: () => Refusal | undefined;
}

export async function openContent(
  reader: ProcfsReader,
  source: ContentSource,
  limitBytes: number,
  signal: AbortSignal,
): Promise<OpenContent | Refusal> {
  const replies = reader.ask({ kind: 'content', source, limitBytes }, signal);
  let first: IteratorResult<Reply>;
  try {
    first = await replies.next();
  } catch (error) {
    return stalled(error, signal);
  }
  if (first.done || first.value.kind !== 'opened') {
    // Ends the answer, so that the reader is free for the next request.
    await replies.next();
    return !first.done && first.value.kind === 'refused'
      ? refusalOf(first.value)
      : { kind: 'refused', why: 'the reader gave no answer' };
  }
  let failure: Refusal | undefined;
  async function* chunks(): AsyncGenerator<Uint8Array> {
    try {
      for await (const reply of replies) {
        if (reply.kind === 'chunk') yield reply.bytes;
        if (reply.kind === 'refused') failure = refusalOf(reply);
      }
    } catch (error) {
      failure = stalled(error, signal);
    }
  }
  return { kind: 'opened', identity: first.value.identity, chunks: chunks(), failure: () => failure };
}

function refusalOf({ why, errno }: { why: string; errno: string | undefined }): Refusal {
  return { kind: 'refused', why, ...(errno === undefined ? {} : { errno }) };
}

/** Cancellation goes on; everything else is an answer. */
function stalled(error: unknown, signal: AbortSignal): Refusal {
  if (signal.aborted) throw error;
  if (!(error instanceof StalledError)) return { kind: 'refused', why: explain(error) };
  return { kind: 'refused', why: `reading it blocks: ${error.message}`, stalled: true };
}
