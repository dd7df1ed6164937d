import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import type koffi from 'koffi';
import type { LibraryHandle } from 'koffi';
import { ExhibitError } from './error.ts';

/**
 * libzstd and libcrypto as Node itself carries them, called on libuv's threads with memory of ours. Node's own one-shot
 * zstdCompress makes a context and an output buffer for every call, which glibc maps, the kernel faults in and glibc unmaps;
 * and its hashes run on the caller's thread. Here contexts and buffers are used again and the threads do the hashing too.
 * Nothing of it holds the process up: there are no threads of our own.
 *
 * Both libraries run such calls on small stacks (koffi's are 128 KiB): the kernel's zstd has to live with 16 KiB.
 */
export interface NativeLibraries {
  /**
   * Compresses `content` into `into`, of at least `frameBound` bytes, as one frame with its size and checksum, and
   * resolves to the bytes written. Neither may be changed until then. Throws ExhibitError `internal` with zstd's words.
   */
  compress(content: Uint8Array, into: Uint8Array, level: number): Promise<number>;
  createSha256(): NativeSha256;
}

export interface NativeSha256 {
  /** One at a time; `bytes` may not be changed until it resolves. */
  update(bytes: Uint8Array): Promise<void>;
  /** Of what came so far, between two updates: lower-case hex. */
  digest(): string;
}

/** zstd.h, enum ZSTD_cParameter. The last one is experimental (ZSTD_c_literalCompressionMode): it may be refused. */
const COMPRESSION_LEVEL = 100;
const CHECKSUM_FLAG = 201;
const LITERAL_MODE = 1002;
const LITERALS = { asLevelSays: 0, compressed: 1 } as const;
/** zstd.h: results from here on are errors. They come as bigints, since no number holds them exactly. */
const FIRST_ERROR = 2n ** 64n - 120n;
/** openssl/sha.h: SHA256_CTX is 112 bytes; the rest is room for a library that has more. */
const SHA256_CONTEXT_BYTES = 256;
const SHA256_BYTES = 32;
/** Queued in koffi at one moment; it refuses more than 256, and each has 256 KiB of stack and heap of its own. */
const MAX_CALLS = 24;

let shared: NativeLibraries | undefined;
let unavailable = false;

/** Opened on first use, or undefined where Node does not export what is needed or koffi has no build for the platform. */
export function tryNativeLibraries(): NativeLibraries | undefined {
  if (unavailable) return undefined;
  try {
    shared ??= openNativeLibraries();
  } catch {
    unavailable = true;
  }
  return shared;
}

/** `file` is for tests; without it, the symbols of the running program. Throws where one of them is missing. */
export function openNativeLibraries(file: string | null = null): NativeLibraries {
  // Not an import: koffi's own library is made for some platforms only, and its absence must not stop the agent.
  const ffi: typeof koffi = createRequire(import.meta.url)('koffi');
  const library = ffi.load(file);
  const calls = new Turns(MAX_CALLS);
  const sha256 = bindSha256(library);
  return { compress: bindCompress(library, calls), createSha256: () => new Sha256(sha256, calls) };
}

export type Foreign = ReturnType<LibraryHandle['func']>;

function bindCompress(library: LibraryHandle, calls: Turns): NativeLibraries['compress'] {
  const create = library.func('void *ZSTD_createCCtx()');
  const free = library.func('size_t ZSTD_freeCCtx(void *context)');
  const set = library.func('size_t ZSTD_CCtx_setParameter(void *context, int parameter, int value)');
  const compress2 = library.func(
    'size_t ZSTD_compress2(void *context, void *into, size_t capacity, const void *content, size_t length)',
  );
  const errorName = library.func('const char *ZSTD_getErrorName(size_t code)');
  const check = (result: unknown): number => {
    if (typeof result !== 'bigint' || result < FIRST_ERROR) return Number(result);
    throw new ExhibitError('internal', `zstd could not compress a frame: ${String(errorName(result))}`);
  };
  /**
   * Level 1 is made as level -2 is, but with literals compressed: measured on programs, logs and JavaScript heaps, it stores
   * within 3 % of what zstd's own level 1 stores, for 11 to 14 % less work.
   */
  const setUp = (context: unknown, level: number): void => {
    const literals = level === 1 ? LITERALS.compressed : LITERALS.asLevelSays;
    const refused = typeof set(context, LITERAL_MODE, literals) === 'bigint';
    check(set(context, COMPRESSION_LEVEL, level === 1 && !refused ? -2 : level));
    check(set(context, CHECKSUM_FLAG, 1));
  };
  /** Some 600 KiB each at level 1, 17 MiB at level 19; one for each frame being compressed. */
  const contexts: unknown[] = [];
  const turns = new Turns(compressingThreads());
  return (content, into, level) =>
    turns.take(async () => {
      const context: unknown = contexts.pop() ?? create();
      if (context === null || context === 0n) throw new ExhibitError('internal', 'there is no memory for zstd');
      try {
        setUp(context, level);
        const args = [context, into, into.length, content, content.length];
        const storedBytes = check(await calls.take(() => onThread(compress2, args)));
        contexts.push(context);
        return storedBytes;
      } catch (error) {
        free(context); // After a failed call it is in the middle of that call's frame.
        throw error;
      }
    });
}

interface Sha256Calls {
  readonly init: Foreign;
  readonly update: Foreign;
  readonly final: Foreign;
}

/** Libcrypto's plain functions rather than EVP's: their state is a block of memory of ours, so there is nothing to free. */
function bindSha256(library: LibraryHandle): Sha256Calls {
  return {
    init: library.func('int SHA256_Init(void *context)'),
    update: library.func('int SHA256_Update(void *context, const void *bytes, size_t length)'),
    final: library.func('int SHA256_Final(void *digest, void *context)'),
  };
}

class Sha256 implements NativeSha256 {
  readonly #library: Sha256Calls;
  readonly #calls: Turns;
  readonly #context = Buffer.allocUnsafeSlow(SHA256_CONTEXT_BYTES);

  constructor(library: Sha256Calls, calls: Turns) {
    this.#library = library;
    this.#calls = calls;
    mustBeOne(library.init(this.#context));
  }

  async update(bytes: Uint8Array): Promise<void> {
    const args = [this.#context, bytes, bytes.length];
    mustBeOne(await this.#calls.take(() => onThread(this.#library.update, args)));
  }

  digest(): string {
    const digest = Buffer.allocUnsafeSlow(SHA256_BYTES);
    // Of a copy: the context itself could not go on.
    mustBeOne(this.#library.final(digest, Buffer.from(this.#context)));
    return digest.toString('hex');
  }
}

function mustBeOne(result: unknown): void {
  if (result !== 1) throw new ExhibitError('internal', 'libcrypto could not make a SHA-256');
}

/** Memory that a thread works on: koffi passes its address on and nothing else would keep it. */
const inUse = new Set<readonly unknown[]>();

/** Calls on one of libuv's threads. What `args` hold may not be changed until it resolves. */
export function onThread(foreign: Foreign, args: readonly unknown[]): Promise<unknown> {
  return new Promise((resolve, reject) => {
    foreign.async(...args, (error: unknown, result: unknown) => {
      inUse.delete(args);
      if (error === null || error === undefined) resolve(result);
      else reject(error);
    });
    inUse.add(args);
  });
}

/**
 * Frames compressed at one moment: more than there are cores only push each other out of the caches, and one of libuv's
 * threads (four, unless the environment says otherwise) stays free for hashing and writing, which all frames wait for.
 */
function compressingThreads(): number {
  const asked = Number(process.env.UV_THREADPOOL_SIZE);
  const threads = Number.isInteger(asked) && asked > 0 ? asked : 4;
  return Math.max(1, Math.min(availableParallelism(), threads - 1));
}

/** At most `limit` pieces of work at a moment; the others wait in the order they came. */
class Turns {
  readonly #waiting: (() => void)[] = [];
  #free: number;

  constructor(limit: number) {
    this.#free = limit;
  }

  async take<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free -= 1;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#free += 1;
      else next();
    }
  }
}
