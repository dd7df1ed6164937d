import { hash } from 'node:crypto';
import { explain, isExhibitError } from './error.ts';
import { endsEarly } from './frame-decoder.ts';
import { RunningDigest } from './frames.ts';
import type { Member, StoredObject } from './manifest.ts';
import { pathBytes, staysInside } from './member-path.ts';
import type { ListedMember } from './members.ts';
import { readTar, type TarEntry, toMember } from './tar-reader.ts';
import type { ObjectContext } from './verify-object.ts';

/** Names of an archive that are remembered to find duplicates; of a larger one only the first. */
const MAX_NAMES = 100_000;

/** Lines beyond the archive's end that are read: a list may be a bomb, and so many errors are enough. */
const MAX_MISSING = 100_000;

/**
 * Walks an archive and its list side by side: every member in its place, with its type, size and SHA-256. Stops at the
 * first member that is another one than listed, since every later one would be reported too. Errors of `content` itself
 * (frames that do not decompress) pass through; errors of the archive and of the list become findings.
 */
export async function compareMembers(
  object: StoredObject,
  content: AsyncIterable<Uint8Array>,
  expected: AsyncGenerator<ListedMember>,
  context: ObjectContext,
): Promise<void> {
  const { findings, where } = context;
  const walk = new Walk(object, context);
  let contentFailure: { readonly error: unknown } | undefined;
  const watched = watchErrors(content, (error) => {
    contentFailure = { error };
  });
  try {
    for await (const entry of readTar(watched)) {
      const found = await readMember(entry);
      context.onMember();
      walk.look(entry);
      const line = await nextLine(expected, context, object);
      if (line === 'broken') return;
      if (!walk.compare(found, line)) return;
    }
    for (let missing = 0; missing < MAX_MISSING; missing += 1) {
      const line = await nextLine(expected, context, object);
      if (typeof line === 'string') return;
      const message = `${line.path} is listed, but not in ${object.name}`;
      findings.add('error', 'member-missing', message, { ...where, member: line.path });
    }
  } catch (error) {
    if (contentFailure?.error === error || !isExhibitError(error, 'bundle-corrupt')) throw error;
    findings.add('error', 'tar-corrupt', `${object.name}: ${explain(error)}`, where);
  } finally {
    await expected.return(undefined);
  }
}

class Walk {
  readonly #object: StoredObject;
  readonly #context: ObjectContext;
  readonly #names = new Set<string>();
  #index = 0;

  constructor(object: StoredObject, context: ObjectContext) {
    this.#object = object;
    this.#context = context;
  }

  /** What can be said of a member without its list. */
  look(entry: TarEntry): void {
    const { findings, where } = this.#context;
    const at = { ...where, member: entry.path };
    const name = entry.header.path.toString('latin1');
    if (name !== '.' && name !== './' && !staysInside(name.replace(/^\.\//, ''))) {
      findings.add('warning', 'member-name-unsafe', `${entry.path} leads out of the folder it is extracted to`, at);
    }
    // A name may be megabytes long; its digest is not.
    const digest = hash('sha256', entry.header.path, 'base64');
    if (this.#names.has(digest)) findings.add('warning', 'member-duplicate', `${entry.path} is there twice`, at);
    if (this.#names.size < MAX_NAMES) this.#names.add(digest);
  }

  /** False when the two lists have parted. */
  compare(found: Member, line: ListedMember | 'end'): boolean {
    const { findings, where } = this.#context;
    const at = { ...where, member: found.path };
    this.#index += 1;
    if (line === 'end') {
      findings.add('error', 'member-unlisted', `${found.path} is in ${this.#object.name}, but not listed`, at);
      return true;
    }
    if (!pathBytes(line).equals(pathBytes(found))) {
      const message = `member ${this.#index} of ${this.#object.name} is ${found.path}; listed there is ${line.path}`;
      findings.add('error', 'member-order', message, at);
      return false;
    }
    if (line.type !== found.type) {
      findings.add('error', 'member-type', `${found.path} is a ${found.type}; listed is a ${line.type}`, at);
    } else if (line.sizeBytes !== found.sizeBytes) {
      const message = `${found.path} has ${found.sizeBytes} bytes; listed are ${line.sizeBytes}`;
      findings.add('error', 'member-size', message, at);
    } else if (line.sha256 !== undefined && line.sha256 !== found.sha256) {
      findings.add('error', 'member-digest', `${found.path} is altered: its SHA-256 is not the listed one`, at);
    }
    return true;
  }
}

async function readMember(entry: TarEntry): Promise<Member> {
  const digest = new RunningDigest();
  for await (const chunk of entry.body) digest.update(chunk);
  return toMember(entry.header, digest);
}

async function nextLine(
  expected: AsyncGenerator<ListedMember>,
  { findings, where, truncated }: ObjectContext,
  object: StoredObject,
): Promise<ListedMember | 'end' | 'broken'> {
  try {
    const next = await expected.next();
    return next.done === true ? 'end' : next.value;
  } catch (error) {
    if (isExhibitError(error, 'cancelled')) throw error;
    if (endsEarly(error) && truncated.has(object.membersIn ?? '')) {
      const message = `the list of the members of ${object.name} ends early, as the manifest says: those after it were not compared`;
      findings.add('warning', 'members-not-listed', message, where);
      return 'broken';
    }
    const message = `the list of the members of ${object.name} cannot be read: ${explain(error)}`;
    findings.add('error', 'members-list-corrupt', message, { ...where, object: object.membersIn ?? object.name });
    return 'broken';
  }
}

async function* watchErrors(
  chunks: AsyncIterable<Uint8Array>,
  onError: (error: unknown) => void,
): AsyncGenerator<Uint8Array> {
  try {
    yield* chunks;
  } catch (error) {
    onError(error);
    throw error;
  }
}
