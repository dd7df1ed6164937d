import type { ByteSource } from './byte-sink.ts';
import { explain } from './error.ts';
import { RunningDigest } from './frames.ts';
import type { Member } from './manifest.ts';
import { describePath } from './member-path.ts';
import { type ParsedHeader, type TarEvent, TarParser } from './tar-parser.ts';

export interface TarEntry {
  readonly header: ParsedHeader;
  /** For people; the name's bytes are in `header.path`. Nothing says that it is safe to join to a folder. */
  readonly path: string;
  /** Once, and before the next entry is asked for; what is not read is passed over. A view: copy what you keep. */
  readonly body: AsyncIterable<Uint8Array>;
}

/** The members of an archive in its order. Throws ExhibitError `bundle-corrupt` where the archive stops being one. */
export async function* readTar(chunks: ByteSource): AsyncGenerator<TarEntry> {
  const events = tarEvents(chunks);
  try {
    for (let next = await events.next(); next.done !== true; next = await events.next()) {
      // Bodies are drained below, so that between entries only members come.
      if (next.value.kind !== 'member') continue;
      const body = bodyOf(events);
      yield { header: next.value.header, path: describePath(next.value.header.path).path, body };
      for await (const _ of body);
    }
  } finally {
    await events.return(undefined);
  }
}

async function* tarEvents(chunks: ByteSource): AsyncGenerator<TarEvent> {
  const parser = new TarParser();
  for await (const chunk of chunks) yield* parser.push(chunk);
  parser.end();
}

/** The content up to the member's end. A reader may leave it early: iterating again goes on where it stopped. */
function bodyOf(events: AsyncGenerator<TarEvent>): AsyncIterable<Uint8Array> {
  let ended = false;
  const next = async (): Promise<IteratorResult<Uint8Array, undefined>> => {
    while (!ended) {
      const event = await events.next();
      ended = event.done === true || event.value.kind === 'member-end';
      if (event.done !== true && event.value.kind === 'data') return { done: false, value: event.value.bytes };
    }
    return { done: true, value: undefined };
  };
  return { [Symbol.asyncIterator]: () => ({ next }) };
}

/** Lists a tar as it streams past. It never throws for what the stream holds: the stream is evidence, good or bad. */
export interface TarObserver {
  /** The members that end within `chunk`, in order. Nothing is remembered of them. */
  write(chunk: Uint8Array): readonly Member[];
  /** Why listing stopped, when the archive is none or is broken; undefined when it was read to its end. */
  end(): string | undefined;
}

export function createTarObserver(): TarObserver {
  const parser = new TarParser();
  let current: { readonly header: ParsedHeader; readonly digest: RunningDigest } | undefined;
  let problem: string | undefined;

  const attempt = (work: () => void): void => {
    if (problem !== undefined) return;
    try {
      work();
    } catch (error) {
      problem = explain(error);
    }
  };
  return {
    write(chunk) {
      const ended: Member[] = [];
      attempt(() => {
        for (const event of parser.push(chunk)) {
          if (event.kind === 'member') current = { header: event.header, digest: new RunningDigest() };
          else if (event.kind === 'data') current?.digest.update(event.bytes);
          else if (current !== undefined) ended.push(toMember(current.header, current.digest));
        }
      });
      return ended;
    },
    end() {
      attempt(() => parser.end());
      return problem;
    },
  };
}

/** A member as a manifest lists it. `digest` is of the whole content, and is used up. */
export function toMember(header: ParsedHeader, digest: RunningDigest): Member {
  const { sha256, sizeBytes } = digest.digest();
  return {
    ...describePath(header.path),
    type: header.type,
    sizeBytes,
    ...(header.type === 'file' ? { sha256 } : {}),
  };
}
