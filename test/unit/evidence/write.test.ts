import { zstdDecompressSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import type { Archive, ForeignArchive, TextObject } from '../../../agent/collect/collector.ts';
import { decodeFrames } from '../../../evidence/frame-decoder.ts';
import type { StoredObject } from '../../../evidence/manifest.ts';
import { MAX_LISTED_MEMBERS } from '../../../evidence/member-list.ts';
import { readMemberLines } from '../../../evidence/members.ts';
import { createBundleWriter } from '../../../evidence/write.ts';
import { gather, MemorySink, openIn } from './memory-sink.ts';
import { archiveOf, SAMPLES } from './tar-samples.ts';

function bundle() {
  const objects = new Map<string, Buffer>();
  const stored: StoredObject[] = [];
  const writer = createBundleWriter(openIn(objects), { onStored: (object) => stored.push(object) });
  return { objects, stored, writer };
}

describe('writing a bundle', () => {
  it('fits what collectors are given', async () => {
    const { writer } = bundle();
    const archive: Archive = await writer.openArchive('a.tar.zst');
    const foreign: ForeignArchive = await writer.openForeignArchive('b.tar.zst');
    const text: TextObject = await writer.openText('c.jsonl.zst', 'jsonl');
    await Promise.all([archive.commit(), foreign.commit(), text.commit()]);
  });

  it('records what is committed, and nothing of what is dropped', async () => {
    const { objects, stored, writer } = bundle();
    {
      await using dropped = await writer.openArchive('dropped.tar.zst');
      await dropped.add({ path: 'x', type: 'fifo' });
    }
    await using kept = await writer.openArchive('kept.tar.zst');
    const { member } = await kept.add({ path: 'x', type: 'file', sizeBytes: 3 }, Buffer.from('abc'));
    await kept.commit();
    expect([...objects.keys()]).toEqual(['kept.tar.zst']);
    expect(stored).toEqual([
      {
        name: 'kept.tar.zst',
        mediaType: 'application/x-tar+zstd',
        stored: expect.objectContaining({ sizeBytes: objects.get('kept.tar.zst')?.length }),
        content: expect.objectContaining({ sizeBytes: 512 + 512 + 1024 }),
        members: [member],
      },
    ]);
  });

  it('hashes content only where its stored digest does not cover it', async () => {
    const objects = new Map<string, Buffer>();
    const stored: StoredObject[] = [];
    const body = Buffer.concat([Buffer.alloc(300_000), Buffer.from('abc'), Buffer.alloc(200_000, 7)]);
    for (const level of [0, 1]) {
      const writer = createBundleWriter(openIn(objects), { level, onStored: (object) => stored.push(object) });
      const options = { storedDigestOnly: true, digestMembersUpTo: 1000 };
      await using archive = await writer.openArchive(`${level}.tar.zst`, options);
      await archive.add({ path: 'core', type: 'file', sizeBytes: body.length }, body);
      await archive.add({ path: 'small', type: 'file', sizeBytes: 3 }, Buffer.from('abc'));
      await archive.commit();
    }
    const [raw, compressed] = stored;
    expect(raw?.content).toEqual({ sizeBytes: compressed?.content?.sizeBytes });
    expect(compressed?.content?.sha256).toMatch(/^[0-9a-f]{64}$/);
    expect(raw?.members?.map(({ sha256 }) => sha256 === undefined)).toEqual([true, false]);
    const contents = [0, 1].map(async (level) =>
      gather(decodeFrames([objects.get(`${level}.tar.zst`) ?? Buffer.alloc(0)])),
    );
    const [first, second] = await Promise.all(contents);
    expect(first?.equals(second ?? Buffer.alloc(0))).toBe(true);
  });

  it('puts members beside the archive when there are too many for a manifest', async () => {
    const { objects, stored, writer } = bundle();
    await using archive = await writer.openArchive('processes.tar.zst');
    const count = MAX_LISTED_MEMBERS + 2;
    for (let index = 0; index < count; index += 1) await archive.add({ path: `m${index}`, type: 'fifo' });
    await archive.commit();
    expect(stored.map(({ name, members, membersIn }) => ({ name, members, membersIn }))).toEqual([
      { name: 'processes.members.jsonl.zst', members: undefined, membersIn: undefined },
      { name: 'processes.tar.zst', members: undefined, membersIn: 'processes.members.jsonl.zst' },
    ]);
    let index = 0;
    for await (const line of readMemberLines([objects.get('processes.members.jsonl.zst') ?? Buffer.alloc(0)])) {
      expect(line.path).toBe(`m${index}`);
      index += 1;
    }
    expect(index).toBe(count);
  });

  it('puts members beside the archive when their names are too long for a manifest', async () => {
    const { stored, writer } = bundle();
    await using archive = await writer.openArchive('a.tar.zst');
    for (let index = 0; index < 1100; index += 1)
      await archive.add({ path: `${index}${'n'.repeat(4000)}`, type: 'fifo' });
    await archive.commit();
    expect(stored.map(({ name }) => name)).toEqual(['a.members.jsonl.zst', 'a.tar.zst']);
  });

  it('lists the members of a foreign archive as it passes', async () => {
    const { objects, stored, writer } = bundle();
    const { bytes, written } = await archiveOf(SAMPLES);
    await using foreign = await writer.openForeignArchive('checkpoint.tar.zst');
    for (let at = 0; at < bytes.length; at += 700) await foreign.write(bytes.subarray(at, at + 700));
    await foreign.commit();
    expect(stored[0]?.members).toEqual(written.map(({ member }) => member));
    expect(await gather(decodeFrames([objects.get('checkpoint.tar.zst') ?? Buffer.alloc(0)]))).toEqual(bytes);
  });

  it('stores a foreign archive that is none, unlisted, and says why', async () => {
    const { stored, writer } = bundle();
    const problems: string[] = [];
    await using foreign = await writer.openForeignArchive('c.tar.zst', { onProblem: (why) => problems.push(why) });
    await foreign.write(Buffer.alloc(600, 'not a tar'));
    await foreign.commit();
    expect(problems).toEqual([expect.stringMatching(/damaged/)]);
    expect(stored[0]).toMatchObject({ name: 'c.tar.zst', content: { sizeBytes: 600 } });
    expect(stored[0]?.members).toBeUndefined();
  });

  it('refuses a line that would read as two', async () => {
    const { writer } = bundle();
    await using text = await writer.openText('b.zst', 'bodyfile');
    await expect(text.line('0|/tmp/a\n0|/tmp/forged|')).rejects.toThrow(/holds a newline/);
  });

  it('keeps lines of any length and script in their order', async () => {
    const { writer, objects } = bundle();
    const lines = ['short', 'ü€😀'.repeat(20_000), 'x'.repeat(300_000), '', 'last'];
    {
      await using text = await writer.openText('c.zst', 'bodyfile');
      for (const line of lines) await text.line(line);
      await text.commit();
    }
    expect(zstdDecompressSync(objects.get('c.zst') ?? Buffer.alloc(0)).toString()).toBe(
      lines.map((line) => `${line}\n`).join(''),
    );
  });

  it('hands on the error of a sink, and lets go of the sink', async () => {
    const sink = new MemorySink();
    const writer = createBundleWriter(
      async () => ({
        write: () => Promise.reject(new Error('disk full')),
        commit: () => sink.commit(),
        [Symbol.asyncDispose]: () => sink[Symbol.asyncDispose](),
      }),
      { frameBytes: 64, inFlight: 1, onStored: () => expect.unreachable() },
    );
    {
      await using archive = await writer.openArchive('a.tar.zst');
      const body = Buffer.alloc(300_000); // Smaller members are gathered before the sink hears of them.
      await expect(archive.add({ path: 'x', type: 'file', sizeBytes: body.length }, body)).rejects.toThrow('disk full');
      await expect(archive.commit()).rejects.toThrow('failed');
    }
    expect(sink).toMatchObject({ committed: false, disposed: true });
  });
});
