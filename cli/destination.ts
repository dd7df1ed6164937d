import { constants } from 'node:fs';
import { type FileHandle, open, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { ExhibitError, explain, isErrno } from '../evidence/error.ts';
import { escapeLines, escapeText } from './print.ts';
import type { Output, Session } from './session.ts';

/** Where extracted bytes go. Disposal without `commit` removes a file that was begun: half a file is no evidence. */
export interface Destination extends AsyncDisposable {
  /** The file, or undefined for stdout. */
  readonly file: string | undefined;
  /** Aborted when nobody reads any more. */
  readonly hungUp: AbortSignal;
  write(chunk: Uint8Array): Promise<void>;
  commit(): Promise<void>;
}

/**
 * `--out` as a file or a folder, or stdout without it. `name` is what a file in a folder would be called; `option` is what
 * the person would have to change.
 */
export async function openDestination(
  session: Session,
  out: string | undefined,
  name: string,
  option = '--out',
): Promise<Destination> {
  if (out !== undefined) return openFile(await outFile(out, name), option);
  return session.stdout.isTerminal ? terminalDestination(session.stdout) : pipeDestination(session.stdout);
}

/** The file that `--out` means: itself, or a name of one segment in a folder that is there. */
async function outFile(out: string, name: string): Promise<string> {
  const isFolder = await stat(out).then(
    (found) => found.isDirectory(),
    () => false,
  );
  if (isFolder) return path.join(out, fileName(name));
  if (out.endsWith('/')) throw new ExhibitError('usage', `There is no folder ${out}: make it first.`);
  return out;
}

/** The last segment of a name from evidence as a name that stays in its folder and can be typed. */
function fileName(name: string): string {
  const last = name.split('/').findLast((segment) => segment !== '') ?? '';
  const safe = escapeText(last).replaceAll('\\', '_');
  return /^\.{0,2}$/.test(safe) ? `_${safe.length}` : safe;
}

/**
 * A new file that only its owner reads. O_EXCL: it neither overwrites nor follows a link that waits there (open(2)); on a
 * terminal's or a pipe's path it fails as well, so that evidence never goes into a device.
 */
async function openFile(file: string, option: string): Promise<Destination> {
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  let handle: FileHandle | undefined = await open(file, flags, 0o600).catch((error: unknown) => {
    if (isErrno(error, 'EEXIST')) {
      throw new ExhibitError('usage', `${file} exists and is not overwritten: choose another ${option}.`, {
        cause: error,
      });
    }
    throw new ExhibitError('usage', `${file} cannot be made (${explain(error)}): choose another ${option}.`, {
      cause: error,
    });
  });
  return {
    file,
    hungUp: new AbortController().signal,
    async write(chunk) {
      await handle?.writeFile(chunk);
    },
    async commit() {
      await handle?.close();
      handle = undefined;
    },
    async [Symbol.asyncDispose]() {
      if (handle === undefined) return;
      await handle.close();
      await rm(file, { force: true });
    },
  };
}

function pipeDestination(stdout: Output): Destination {
  return {
    file: undefined,
    hungUp: stdout.hungUp,
    write: (chunk) => stdout.write(chunk),
    commit: async () => undefined,
    [Symbol.asyncDispose]: async () => undefined,
  };
}

/** Text, escaped so that the terminal obeys nothing in it. Bytes that are no text are refused before any is shown. */
function terminalDestination(stdout: Output): Destination {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  const decode = (chunk?: Uint8Array): string => {
    try {
      const text = chunk === undefined ? decoder.decode() : decoder.decode(chunk, { stream: true });
      if (!text.includes('\0')) return text;
    } catch {
      // Not UTF-8: the same answer as for NUL bytes.
    }
    throw new ExhibitError('usage', 'These bytes are no text and a terminal would obey them: use --out, or a pipe.');
  };
  return {
    file: undefined,
    hungUp: stdout.hungUp,
    write: (chunk) => stdout.write(escapeLines(decode(chunk))),
    commit: () => stdout.write(escapeLines(decode())),
    [Symbol.asyncDispose]: async () => undefined,
  };
}
