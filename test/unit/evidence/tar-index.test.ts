import { describe, expect, it } from 'vitest';
import { createFrameWriter } from '../../../evidence/frames.ts';
import type { ListedMember } from '../../../evidence/members.ts';
import { openSeekable } from '../../../evidence/seekable.ts';
import { createTarWriter, type TarHeader } from '../../../evidence/tar.ts';
import { openTarIndex } from '../../../evidence/tar-index.ts';
import { MemorySink } from './memory-sink.ts';
import { fc } from './properties.ts';

interface Given extends TarHeader {
  readonly body: Buffer;
}

async function archived(given: readonly Given[], frameBytes = 1024) {
  const sink = new MemorySink();
  const frames = createFrameWriter(sink, { frameBytes });
  const listed: ListedMember[] = [];
  const tar = createTarWriter(frames, { onMember: (member) => void listed.push(member) });
  for (const { body, ...header } of given) await tar.add({ ...header, sizeBytes: body.length }, body);
  await tar.end();
  await frames.end();
  const content = await openSeekable(async (start, end) => sink.bytes.subarray(start, end), sink.bytes.length);
  return { content, listed };
}

function file(path: string, sizeBytes: number, more: Partial<TarHeader> = {}): Given {
  return { path, type: 'file', body: Buffer.alloc(sizeBytes, path), ...more };
}

async function contentOf({ content, listed }: Awaited<ReturnType<typeof archived>>, path: string): Promise<Buffer> {
  const index = await openTarIndex(content, listed);
  const found = await index.find(path);
  return Buffer.from(await content.read(found?.offset ?? -1, found?.sizeBytes ?? 0));
}

describe('the index of a stored archive', () => {
  it('finds any member of any archive, whatever headers the members have', async () => {
    const member = fc.record({
      sizeBytes: fc.nat(5000),
      mtimeNs: fc.constantFrom(0n, 1_500_000_000_000_000_000n, 1_500_000_000_123_456_789n),
      long: fc.boolean(),
      type: fc.constantFrom('file', 'file', 'directory', 'symlink'),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(member, { minLength: 1, maxLength: 8 }), async (members) => {
        const given = members.map(({ sizeBytes, mtimeNs, long, type }, index): Given => {
          const path = `${index}${long ? 'x'.repeat(120) : ''}`;
          if (type === 'file') return file(path, sizeBytes, { mtimeNs });
          return {
            path,
            type: type === 'symlink' ? 'symlink' : 'directory',
            linkPath: 'to',
            body: Buffer.alloc(0),
            mtimeNs,
          };
        });
        const archive = await archived(given);
        const index = await openTarIndex(archive.content, archive.listed);
        for (const { path, body, type } of given.toReversed()) {
          const found = await index.find(String(path));
          expect(found === undefined).toBe(type !== 'file');
          if (found === undefined) continue;
          expect(Buffer.from(await archive.content.read(found.offset, found.sizeBytes)).equals(body)).toBe(true);
        }
      }),
      { numRuns: 30 },
    );
  });

  it('computes where a member is: bodies and headers before it are not read', async () => {
    const mtimeNs = 1_500_000_000_123_456_789n;
    const given = Array.from({ length: 50 }, (_, index) => file(`${index}/core`, 40_000, { mtimeNs }));
    const archive = await archived(given);
    const index = await openTarIndex(archive.content, archive.listed);
    const before = archive.content.cost.framesRead;
    expect(await index.find('40/core')).toMatchObject({ sizeBytes: 40_000 });
    // A header of three blocks lies in two frames of two blocks each at most, and may be read block by block.
    expect(archive.content.cost.framesRead - before).toBeLessThanOrEqual(3);
  });

  it('walks the headers when they are not all of one length, without reading the bodies', async () => {
    const given = [file('a', 10), file('b', 400_000, { mtimeNs: 1n }), file('c', 400_000), file('d', 7)];
    const archive = await archived(given);
    expect(await contentOf(archive, 'd')).toEqual(Buffer.alloc(7, 'd'));
    expect(archive.content.cost.framesRead).toBeLessThan(15);
  });

  it('is not led astray by a header in a body', async () => {
    const inner = new MemorySink();
    const forged = createTarWriter(inner);
    await forged.add({ path: 'b', type: 'file', sizeBytes: 512 }, Buffer.alloc(512, 'forged'));
    // The forged header lies where the second would be if the first had none but ustar.
    const body = Buffer.concat([Buffer.alloc(1024, 1), inner.bytes]);
    const given = [file('a', 0, { mtimeNs: 0n }), { ...file('x', 0, { mtimeNs: 1n }), body }, file('b', 512)];
    expect(await contentOf(await archived(given), 'b')).toEqual(Buffer.alloc(512, 'b'));
  });

  it('says so when the list and the archive differ', async () => {
    const archive = await archived([file('a', 10), file('b', 10)]);
    const renamed = archive.listed.map((one) => ({ ...one, path: one.path === 'b' ? 'z' : one.path }));
    await expect(openTarIndex(archive.content, renamed).then((index) => index.find('z'))).rejects.toMatchObject({
      code: 'bundle-corrupt',
      message: expect.stringContaining('member 2 is not the one that is listed (z)'),
    });
    const longer = archive.listed.map((one) => ({ ...one, sizeBytes: 1_000_000 }));
    await expect(openTarIndex(archive.content, longer).then((index) => index.find('a'))).rejects.toMatchObject({
      code: 'bundle-corrupt',
    });
  });

  it('does not choose between two members of one name', async () => {
    const archive = await archived([file('a', 10), file('a', 10), file('b', 1)]);
    const index = await openTarIndex(archive.content, archive.listed);
    await expect(index.find('a')).rejects.toMatchObject({ code: 'bundle-corrupt' });
    expect(await index.find('b')).toMatchObject({ sizeBytes: 1 });
  });
});
