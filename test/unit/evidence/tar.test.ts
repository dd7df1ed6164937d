import { createHash, randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { ExhibitError } from '../../../evidence/error.ts';
import type { Member } from '../../../evidence/manifest.ts';
import { describePath, pathBytes } from '../../../evidence/member-path.ts';
import { createTarWriter, type TarHeader } from '../../../evidence/tar.ts';
import { encodeHeader } from '../../../evidence/tar-header.ts';
import { TarParser } from '../../../evidence/tar-parser.ts';
import { createTarObserver, readTar } from '../../../evidence/tar-reader.ts';
import { gather, MemorySink, pieces } from './memory-sink.ts';
import { fc } from './properties.ts';
import { archiveOf, SAMPLES } from './tar-samples.ts';

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

describe('an archive that we wrote', () => {
  it('is read back with every name, id, date and attribute as it was', async () => {
    const { bytes } = await archiveOf(SAMPLES);
    let index = 0;
    for await (const entry of readTar(pieces(bytes, 1000, 7))) {
      const sample = SAMPLES[index];
      if (sample === undefined) throw new Error('more members than were written');
      const { header } = sample;
      expect(entry.header.path).toEqual(Buffer.from(header.path));
      expect(await gather(entry.body)).toEqual(sample.body ?? Buffer.alloc(0));
      const { path: _, linkPath, xattrs, deviceMinor: __, deviceMajor: ___, ...plain } = header;
      expect(entry.header).toMatchObject({ mode: 0o600, uid: 0, gid: 0, ...plain });
      expect(entry.header.linkPath).toEqual(linkPath === undefined ? undefined : Buffer.from(linkPath));
      expect(new Map(entry.header.xattrs)).toEqual(new Map(xattrs));
      index += 1;
    }
    expect(index).toBe(SAMPLES.length);
  });

  it('is the same bytes each time', async () => {
    expect((await archiveOf(SAMPLES)).bytes).toEqual((await archiveOf(SAMPLES)).bytes);
  });

  it('has members as an observer lists them, whatever the pieces', async () => {
    const { bytes, written } = await archiveOf(SAMPLES);
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 3000 }), { minLength: 1, maxLength: 5 }), (sizes) => {
        const observer = createTarObserver();
        const members: Member[] = [];
        for (const piece of pieces(bytes, ...sizes)) members.push(...observer.write(piece));
        expect(observer.end()).toBeUndefined();
        expect(members).toEqual(written.map(({ member }) => member));
      }),
    );
  });

  it('has its members in the order in which they came, whether whole, in pieces, or large', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.constantFrom(0, 1, 700, 100_000, 300_000), fc.boolean()), { maxLength: 8 }),
        async (bodies) => {
          const sink = new MemorySink();
          const tar = createTarWriter(sink);
          const written: Member[] = [];
          for (const [index, [sizeBytes, isWhole]] of bodies.entries()) {
            const body = Buffer.alloc(sizeBytes, index + 1);
            const header = { path: `${index}`, type: 'file', sizeBytes } as const;
            written.push((await tar.add(header, isWhole ? body : pieces(body, 50_000))).member);
          }
          await tar.end();
          const observer = createTarObserver();
          expect(observer.write(sink.bytes)).toEqual(written);
          expect(observer.end()).toBeUndefined();
        },
      ),
      { numRuns: 30 },
    );
  });

  it('holds any header there can be', async () => {
    const name = fc.uint8Array({ minLength: 1, maxLength: 300 }).map((bytes) => bytes.map((byte) => byte || 1));
    const ns = fc.bigInt({ min: -(1n << 62n), max: 1n << 63n });
    const header: fc.Arbitrary<TarHeader> = fc.record(
      {
        path: name,
        type: fc.constant('file' as const),
        sizeBytes: fc.constant(3),
        mode: fc.integer({ min: 0, max: 0o7777 }),
        uid: fc.nat(4_294_967_295),
        gid: fc.nat(4_294_967_295),
        mtimeNs: ns,
        atimeNs: ns,
        ctimeNs: ns,
        xattrs: fc
          .array(fc.tuple(fc.string({ minLength: 1, unit: 'grapheme' }), fc.uint8Array()), { maxLength: 4 })
          .map((pairs) => new Map(pairs.map(([key, value]) => [`user.${key}`, Buffer.from(value)]))),
      },
      { requiredKeys: ['path', 'type', 'sizeBytes'] },
    );
    await fc.assert(
      fc.asyncProperty(header, async (wanted) => {
        const { bytes } = await archiveOf([{ header: wanted, body: Buffer.from('abc') }]);
        for await (const entry of readTar([bytes])) {
          const { path, xattrs, ...plain } = wanted;
          expect(entry.header.path).toEqual(Buffer.from(path));
          expect(entry.header).toMatchObject(plain);
          expect(new Map(entry.header.xattrs)).toEqual(new Map(xattrs));
        }
      }),
    );
  });

  it('says of each member what the manifest needs', async () => {
    const { written } = await archiveOf(SAMPLES);
    expect(written[0]).toEqual({
      member: { path: 'plain.txt', type: 'file', sizeBytes: 5, sha256: sha256(Buffer.from('plain')) },
      bodyBytes: 5,
    });
    const odd = written[7]?.member;
    expect(odd?.pathBase64).toBe(Buffer.from([0x62, 0x61, 0x64, 0xff, 0xfe, 0x2e, 0xc3]).toString('base64'));
    expect(written.find(({ member }) => member.type === 'directory')?.member).toEqual({
      path: 'folder',
      type: 'directory',
      sizeBytes: 0,
    });
  });
});

describe('a limit on the digests of members', () => {
  it('leaves out those of longer files and changes nothing else', async () => {
    const pack = async (digestMembersUpTo?: number) => {
      const sink = new MemorySink();
      const listed: Member[] = [];
      const writer = createTarWriter(sink, {
        onMember: (member) => void listed.push(member),
        ...(digestMembersUpTo === undefined ? {} : { digestMembersUpTo }),
      });
      for (const sizeBytes of [0, 999, 1000, 1001, 3_000_000]) {
        const body = Buffer.alloc(sizeBytes, 'abc');
        await writer.add({ path: `${sizeBytes}`, type: 'file', sizeBytes }, pieces(body, 2_500_000));
      }
      await writer.end();
      return { listed, bytes: sink.bytes };
    };
    const [all, limited] = [await pack(), await pack(1000)];
    expect(limited.bytes.equals(all.bytes)).toBe(true);
    expect(all.listed.every(({ sha256 }) => sha256 !== undefined)).toBe(true);
    expect(limited.listed).toEqual(
      all.listed.map(({ sha256, ...rest }) => (rest.sizeBytes > 1000 ? rest : { ...rest, sha256 })),
    );
  });
});

describe('a member whose body is not as long as it was said to be', () => {
  for (const [came, declared] of [
    [0, 700],
    [300, 700],
    [512, 513],
    [701, 700],
    [5000, 1],
    [9, 0],
  ] as const) {
    it(`has ${declared} bytes when ${came} came`, async () => {
      const body = randomBytes(came);
      const sink = new MemorySink();
      const tar = createTarWriter(sink);
      const written = await tar.add({ path: 'f', type: 'file', sizeBytes: declared }, pieces(body, 100));
      await tar.add({ path: 'g', type: 'file', sizeBytes: 1 }, Buffer.from('g'));
      await tar.end();
      const expected = Buffer.concat([body, Buffer.alloc(declared)]).subarray(0, declared);
      expect(written.member).toEqual({ path: 'f', type: 'file', sizeBytes: declared, sha256: sha256(expected) });
      if (came < declared) expect(written.bodyBytes).toBe(came);
      else if (declared > 0) expect(written.bodyBytes).toBeGreaterThan(declared);
      const bodies: Buffer[] = [];
      for await (const entry of readTar([sink.bytes])) bodies.push(await gather(entry.body));
      expect(bodies).toEqual([expected, Buffer.from('g')]);
    });
  }

  it('is filled up, and the archive is good, when the body fails in the middle', async () => {
    const sink = new MemorySink();
    const members: Member[] = [];
    const tar = createTarWriter(sink, { onMember: (member) => void members.push(member) });
    async function* failing() {
      yield Buffer.from('half');
      throw new Error('EIO');
    }
    await expect(tar.add({ path: 'f', type: 'file', sizeBytes: 8 }, failing())).rejects.toThrow('EIO');
    await tar.add({ path: 'g', type: 'file', sizeBytes: 1 }, Buffer.from('g'));
    await tar.end();
    expect(members[0]).toEqual({ path: 'f', type: 'file', sizeBytes: 8, sha256: sha256(Buffer.from('half\0\0\0\0')) });
    expect(members).toHaveLength(2);
    const observer = createTarObserver();
    expect(observer.write(sink.bytes)).toEqual(members);
    expect(observer.end()).toBeUndefined();
  });

  it('is not filled up when the capture was cancelled', async () => {
    const sink = new MemorySink();
    const tar = createTarWriter(sink);
    // biome-ignore lint/correctness/useYield: it fails before its first chunk.
    async function* cancelled(): AsyncGenerator<Uint8Array> {
      throw new ExhibitError('cancelled', 'stop');
    }
    await expect(tar.add({ path: 'f', type: 'file', sizeBytes: 2 ** 50 }, cancelled())).rejects.toThrow('stop');
    await expect(tar.end()).rejects.toThrow('failed');
  });

  it('stops asking a body that goes on for ever', async () => {
    let closed = false;
    async function* endless() {
      try {
        for (;;) yield Buffer.alloc(100);
      } finally {
        closed = true;
      }
    }
    const tar = createTarWriter(new MemorySink());
    await tar.add({ path: 'f', type: 'file', sizeBytes: 250 }, endless());
    expect(closed).toBe(true);
  });
});

describe('sizes', () => {
  it('beyond 8 GiB are in the header and in pax, and parsed without the body', () => {
    const sizeBytes = 10 * 2 ** 40;
    const head = encodeHeader({ path: 'core', type: 'file', sizeBytes });
    const [event] = [...new TarParser().push(head)];
    expect(event).toMatchObject({ kind: 'member', header: { sizeBytes } });
    expect(head.includes('23 size=10995116277760\n')).toBe(true);
  });
});

describe('paths in JSON', () => {
  it('are text where they are UTF-8 and keep their bytes where they are not', () => {
    fc.assert(
      fc.property(fc.uint8Array(), (bytes) => {
        expect(pathBytes(describePath(bytes))).toEqual(Buffer.from(bytes));
      }),
    );
    expect(describePath('plain')).toEqual({ path: 'plain' });
  });
});
