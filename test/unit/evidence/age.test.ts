import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Decrypter, Encrypter, generateX25519Identity, identityToRecipient } from 'age-encryption';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { nodeSeal, openNativeSeal, tryNativeSeal } from '../../../evidence/age-cipher.ts';
import { AgeCut, AgeError, CHUNK_BYTES, contentBytesOf, MAX_HEADER_BYTES } from '../../../evidence/age-format.ts';
import { parseIdentities } from '../../../evidence/age-identity.ts';
import { decryptFile, decryptRange, NoIdentity, readKey, storedRange } from '../../../evidence/age-reader.ts';
import { createEncryption, type Encrypt, encryptWhole } from '../../../evidence/age-writer.ts';
import { gather, pieces } from './memory-sink.ts';
import { requireProgram, run } from './programs.ts';

const SIZES = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES, 3 * CHUNK_BYTES + 17];
const TAG_BYTES = 16;

describe('age files', () => {
  let folder: string;
  let identities: string[];
  let recipients: string[];
  let encrypt: Encrypt;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'exhibit-age-'));
    identities = await Promise.all([1, 2, 3].map(() => generateX25519Identity()));
    recipients = await Promise.all(identities.map((identity) => identityToRecipient(identity)));
    encrypt = await createEncryption(recipients);
  });
  afterAll(() => rm(folder, { recursive: true }));

  const identityFile = async (identity: string | undefined) => {
    const file = join(folder, 'identity.txt');
    await writeFile(file, `# of a test\n${identity}\n`);
    return file;
  };

  /** `content` through the stream in pieces, as a frame writer does it; memory is given back, and so written over. */
  async function encryptPieces(content: Uint8Array, ...sizes: number[]): Promise<Buffer> {
    const stream = await encrypt();
    const stored: Buffer[] = [];
    for (const piece of pieces(content, ...sizes)) {
      const { bytes, release } = stream.push(piece);
      stored.push(Buffer.from(bytes));
      release();
    }
    stored.push(Buffer.from(stream.end().bytes));
    return Buffer.concat(stored);
  }

  for (const size of SIZES) {
    it(`of ${size} bytes are opened by age, with the identity of each recipient`, async (context) => {
      requireProgram(context, 'age');
      const content = randomBytes(size);
      const file = await encryptPieces(content, 1000, 70_000, 200_000);
      for (const identity of identities) {
        const opened = run(['age', '-d', '-i', await identityFile(identity)], file);
        expect(opened.status, opened.stderr).toBe(0);
        expect(opened.stdout.equals(content)).toBe(true);
      }
    });

    it(`of ${size} bytes that age made to several recipients are read here`, async (context) => {
      requireProgram(context, 'age');
      const content = randomBytes(size);
      const made = run(['age', ...recipients.flatMap((recipient) => ['-r', recipient])], content);
      expect(made.status, made.stderr).toBe(0);
      for (const identity of identities) {
        const read = await gather(decryptFile(pieces(made.stdout, 7, 90_000), [identity]));
        expect(read.equals(content)).toBe(true);
      }
    });

    it(`of ${size} bytes are read by the library that made their header`, async () => {
      const content = randomBytes(size);
      const decrypter = new Decrypter();
      decrypter.addIdentity(identities[1] ?? '');
      const opened = await decrypter.decrypt(await encryptWhole(encrypt, content));
      expect(Buffer.from(opened).equals(content)).toBe(true);
    });
  }

  it('have a key and a nonce of their own each time', async () => {
    const content = Buffer.from('the same');
    const [one, two] = [await encryptWhole(encrypt, content), await encryptWhole(encrypt, content)];
    const key = async (file: Uint8Array) => Buffer.from((await readKey([file], identities)).key).toString('hex');
    expect(await key(one)).not.toBe(await key(two));
    expect(Buffer.from(one).subarray(-24).equals(Buffer.from(two).subarray(-24))).toBe(false);
  });

  it('come back whole, however they are cut into pieces', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 0, max: 300_000 }),
        fc.array(fc.integer({ min: 1, max: 150_000 }), { minLength: 1, maxLength: 4 }),
        fc.array(fc.integer({ min: 1, max: 150_000 }), { minLength: 1, maxLength: 4 }),
        async (size, written, read) => {
          const content = randomBytes(size);
          const file = await encryptPieces(content, ...written);
          expect((await gather(decryptFile(pieces(file, ...read), identities))).equals(content)).toBe(true);
          const { headBytes } = await readKey([file], identities);
          expect(contentBytesOf(file.length - headBytes)).toBe(size);
        },
      ),
      { numRuns: 40 },
    );
  });

  it('give any range of their content for the chunks that it touches', async () => {
    const content = randomBytes(5 * CHUNK_BYTES + 100);
    const file = await encryptWhole(encrypt, content);
    const key = await readKey([file], identities);
    const offset = fc.integer({ min: 0, max: content.length + 2 * CHUNK_BYTES });
    await fc.assert(
      fc.asyncProperty(offset, offset, async (start, end) => {
        const stored = storedRange(key, start, end);
        const bytes = file.subarray(stored.start, stored.end);
        const read = await gather(decryptRange(pieces(bytes, 50_000), key, start, end));
        expect(read.equals(end <= start ? Buffer.alloc(0) : content.subarray(start, end))).toBe(true);
      }),
      { numRuns: 60 },
    );
    for (const at of [CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1]) {
      const { start, end } = storedRange(key, at, at + 1);
      expect(end - start).toBe(CHUNK_BYTES + TAG_BYTES + 1);
    }
  });

  describe('that were damaged', () => {
    const CHUNKS = 4;
    let content: Buffer;
    let file: Buffer;
    let head: number;
    beforeAll(async () => {
      content = randomBytes((CHUNKS - 1) * CHUNK_BYTES + 1000);
      file = Buffer.from(await encryptWhole(encrypt, content));
      head = (await readKey([file], identities)).headBytes;
    });
    const at = (chunk: number) => head + chunk * (CHUNK_BYTES + TAG_BYTES);
    const chunk = (index: number) => file.subarray(at(index), at(index + 1));

    /** Everything that came before the error, and the error. */
    async function readDamaged(damaged: Uint8Array): Promise<{ got: Buffer; error: unknown }> {
      const got: Uint8Array[] = [];
      try {
        for await (const part of decryptFile(pieces(damaged, 30_000), identities)) got.push(part);
      } catch (error) {
        return { got: Buffer.concat(got), error };
      }
      throw new Error('it was read as if nothing were wrong');
    }

    const cases: [what: string, change: () => Uint8Array, chunks: number, words: RegExp][] = [
      ['a flipped bit', () => flipped(at(2) + 5), 2, /chunk 2 \(content from byte 131072\) is altered/],
      ['a flipped bit in a tag', () => flipped(at(1) - 1), 0, /chunk 0 .* is altered/],
      ['a flipped bit in the nonce', () => flipped(head - 1), 0, /chunk 0 .* is altered/],
      ['two chunks exchanged', () => parts(chunk(0), chunk(2), chunk(1), chunk(3)), 1, /chunk 1 is its chunk 2, moved/],
      ['a chunk left out', () => parts(chunk(0), chunk(2), chunk(3)), 1, /chunk 1 is its chunk 2, moved/],
      ['a chunk repeated', () => parts(chunk(0), chunk(1), chunk(1), chunk(2), chunk(3)), 2, /chunk 2 is its chunk 1/],
      ['the last chunk cut off', () => parts(chunk(0), chunk(1), chunk(2)), 3, /cut after chunk 2: .* byte 196608/],
      ['a cut inside a chunk', () => file.subarray(0, at(2) + 99), 2, /cut or altered inside chunk 2: .* byte 131072/],
      ['a cut inside a tag', () => file.subarray(0, at(3) - 1), 2, /cut or altered inside chunk 2/],
      ['nothing behind the header', () => file.subarray(0, head), 0, /cut or altered inside chunk 0: .* byte 0/],
      ['a byte appended', () => Buffer.concat([file, Buffer.alloc(1)]), 3, /cut or altered inside chunk 3/],
      ['a chunk appended', () => Buffer.concat([file, chunk(0)]), 3, /chunk 3 .* is altered, or not in its place/],
    ];
    const flipped = (index: number) => {
      const copy = Buffer.from(file);
      copy[index] = (copy[index] ?? 0) ^ 1;
      return copy;
    };
    const parts = (...chunks: Uint8Array[]) => Buffer.concat([file.subarray(0, head), ...chunks]);

    for (const [what, change, chunks, words] of cases) {
      it(`by ${what} give out ${chunks} chunks, and say what is wrong with the next`, async (context) => {
        const damaged = change();
        const { got, error } = await readDamaged(damaged);
        expect(error).toBeInstanceOf(AgeError);
        expect(String(error)).toMatch(words);
        expect(got.equals(content.subarray(0, chunks * CHUNK_BYTES))).toBe(true);
        requireProgram(context, 'age');
        expect(run(['age', '-d', '-i', await identityFile(identities[0])], damaged).status).not.toBe(0);
      });
    }

    it('by bytes after a last chunk that is full say that these were appended', async () => {
      const full = await encryptWhole(encrypt, content.subarray(0, 2 * CHUNK_BYTES));
      const { error } = await readDamaged(Buffer.concat([full, Buffer.from('more')]));
      expect(String(error)).toMatch(/bytes were appended after its last chunk, 1/);
    });

    it('by a cut say where it is, for who has to go on from there', async () => {
      const { error } = await readDamaged(file.subarray(0, at(2) + 99));
      expect(error).toBeInstanceOf(AgeCut);
      expect(error).toMatchObject({ contentBytes: 2 * CHUNK_BYTES });
    });

    it('anywhere never give out a byte that was not written there', async () => {
      await fc.assert(
        fc.asyncProperty(fc.nat(file.length - 1), fc.integer({ min: 1, max: 255 }), async (index, bits) => {
          const damaged = Buffer.from(file);
          damaged[index] = (damaged[index] ?? 0) ^ bits;
          const got: Uint8Array[] = [];
          const reading = (async () => {
            for await (const part of decryptFile([damaged], identities)) got.push(part);
          })();
          await expect(reading).rejects.toThrow();
          const released = Buffer.concat(got);
          expect(released.equals(content.subarray(0, released.length))).toBe(true);
        }),
        { numRuns: 25 },
      );
    });
  });

  describe('whose header is not as it should be', () => {
    it('are refused when it is no age header, armored, cut, or without an end', async () => {
      const reading = (bytes: Uint8Array) => gather(decryptFile([bytes], identities));
      await expect(reading(Buffer.from('{"a": 1}'))).rejects.toThrow(/no age file of version 1/);
      await expect(reading(Buffer.from('-----BEGIN AGE ENCRYPTED FILE-----\n'))).rejects.toThrow(/no age file/);
      await expect(reading(Buffer.alloc(0))).rejects.toThrow(/ends inside its age header/);
      const file = await encryptWhole(encrypt, Buffer.from('x'));
      await expect(reading(file.subarray(0, 100))).rejects.toThrow(/ends inside its age header/);
      const endless = Buffer.concat([Buffer.from('age-encryption.org/v1\n'), Buffer.alloc(1 << 20, 'A\n')]);
      await expect(reading(endless)).rejects.toThrow(new RegExp(`longer than ${MAX_HEADER_BYTES} bytes`));
    });

    it('are refused when somebody added a recipient', async () => {
      const file = Buffer.from(await encryptWhole(encrypt, Buffer.from('x'))).toString('latin1');
      const more = file.replace('\n--- ', '\n-> X25519 abc\nAAAA\n--- ');
      const reading = gather(decryptFile([Buffer.from(more, 'latin1')], identities));
      await expect(reading).rejects.toThrow(/age header is damaged/);
    });

    it('say to what they are encrypted when no identity opens them', async () => {
      const file = await encryptWhole(encrypt, Buffer.from('x'));
      for (const others of [[], [await generateX25519Identity()]]) {
        const error = await readKey([file], others).catch((reason: unknown) => reason);
        expect(error).toBeInstanceOf(NoIdentity);
        expect(error).toMatchObject({ code: 'bundle-encrypted', kinds: ['X25519', 'X25519', 'X25519'] });
        expect(String(error)).toContain('3 x X25519');
      }
    });

    it('name other kinds of recipients by the words of their header', async () => {
      const encrypter = new Encrypter();
      encrypter.setScryptWorkFactor(10);
      encrypter.setPassphrase('a passphrase');
      const file = await encrypter.encrypt('x');
      await expect(readKey([file], identities)).rejects.toThrow(/encrypted to 1 x scrypt/);
    });
  });

  it('are not begun to what is no X25519 recipient', async () => {
    const [good = ''] = recipients;
    const wrong = `${good.slice(0, -1)}${good.endsWith('q') ? 'p' : 'q'}`;
    for (const recipient of [wrong, 'age1', 'ssh-ed25519 AAAA', identities[0] ?? '', 'age1pq1abc', '']) {
      const error = await createEncryption([good, recipient]).catch((reason: unknown) => reason);
      expect(error).toMatchObject({ code: 'config' });
      expect(String(error)).toMatch(/is no X25519 recipient of age/);
      if (!recipient.startsWith('age1')) expect(String(error)).toContain('a line that does not begin with age1');
    }
    await expect(createEncryption([])).rejects.toThrow(/one recipient at least/);
    await expect(createEncryption(Array.from({ length: 33 }, () => good))).rejects.toThrow(/32 recipients at most/);
  });

  it('take their bytes from the stream and no more memory than a chunk', async () => {
    const stream = await encrypt();
    const digest = createHash('sha256');
    let stored = 0;
    for (let piece = 0; piece < 64; piece += 1) {
      const { bytes, release } = stream.push(Buffer.alloc(CHUNK_BYTES, piece));
      digest.update(bytes);
      stored += bytes.length;
      release();
    }
    const held = 64 * (CHUNK_BYTES + TAG_BYTES) - stored;
    expect(held).toBeLessThanOrEqual(CHUNK_BYTES + TAG_BYTES);
    expect(stream.end().bytes.length).toBe(CHUNK_BYTES + TAG_BYTES);
  });
});

describe('sealing a chunk', () => {
  it('gives the same bytes by Node and by libcrypto, whatever the content and its parts', (context) => {
    const native = tryNativeSeal();
    if (native === undefined) return context.skip('needs koffi, which has no build for this platform');
    const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
    fc.assert(
      fc.property(
        bytes(32),
        bytes(12),
        fc.array(fc.uint8Array({ minLength: 1, maxLength: 5000 }), { maxLength: 3 }),
        (key, nonce, parts) => {
          const [one, two] = [Buffer.alloc(20_000), Buffer.alloc(20_000)];
          expect(native(key, nonce, parts, two)).toBe(nodeSeal(key, nonce, parts, one));
          expect(two.equals(one)).toBe(true);
        },
      ),
      { numRuns: 200 },
    );
    const chunk = randomBytes(CHUNK_BYTES);
    const [key, nonce] = [randomBytes(32), randomBytes(12)];
    const [one, two] = [Buffer.alloc(CHUNK_BYTES + TAG_BYTES), Buffer.alloc(CHUNK_BYTES + TAG_BYTES)];
    nodeSeal(key, nonce, [chunk], one);
    native(key, nonce, [chunk], two);
    expect(two.equals(one)).toBe(true);
  });

  it('is refused where there is no room, rather than written beyond it', (context) => {
    const native = tryNativeSeal();
    if (native === undefined) return context.skip('needs koffi, which has no build for this platform');
    const seal = () => native(Buffer.alloc(32), Buffer.alloc(12), [Buffer.alloc(100)], Buffer.alloc(115));
    expect(seal).toThrow(/no room for a chunk/);
  });

  it('is not offered by a library that lacks what is needed', () => {
    expect(() => openNativeSeal('libc.so.6')).toThrow();
  });
});

describe('an identity file', () => {
  const IDENTITY = `AGE-SECRET-KEY-1${'Q'.repeat(58)}`;
  it('has one identity a line, and comments', () => {
    expect(parseIdentities(`# created: now\n\n${IDENTITY}\r\n  ${IDENTITY}\n`, 'key.txt')).toEqual([
      IDENTITY,
      IDENTITY,
    ]);
  });

  const refused: [what: string, text: string, words: RegExp][] = [
    ['of a plugin', 'AGE-PLUGIN-YUBIKEY-1QQQ', /key\.txt is of an age plugin, which exhibit does not run/],
    ['of SSH', '-----BEGIN OPENSSH PRIVATE KEY-----\nabc', /key\.txt is an SSH key, which exhibit does not take/],
    ['encrypted with a passphrase', 'age-encryption.org/v1\n-> scrypt', /key\.txt is encrypted itself: .*age -d/],
    ['with a recipient', 'age1qqqq', /key\.txt is a recipient/],
    ['with something else', 'AGE-SECRET-KEY-1SHORT', /holds a line that is no age identity/],
    ['that is empty', '# nothing\n', /holds no age identity/],
  ];
  for (const [what, text, words] of refused) {
    it(`${what} is refused with a sentence that holds nothing of it`, () => {
      expect(() => parseIdentities(text, 'key.txt')).toThrow(words);
      expect(() => parseIdentities(text, 'key.txt')).not.toThrow(/QQQ|SHORT|qqqq/);
    });
  }
});
