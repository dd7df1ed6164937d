import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CUSTODY_OBJECT } from '../../../evidence/layout.ts';
import type { Manifest } from '../../../evidence/manifest.ts';
import { createSeekTable } from '../../../evidence/seek-table.ts';
import { type VerifyReport, verifyBundle } from '../../../evidence/verify.ts';
import { compressFrame } from '../../../evidence/zstd.ts';
import { custodyBundle } from '../../unit/evidence/custody-bundle.ts';
import { run } from '../../unit/evidence/programs.ts';
import { readerOf, writeTo } from '../../unit/evidence/sample-bundle.ts';

const MIB = 1024 * 1024;
const CHILD = join(import.meta.dirname, 'verify-folder.ts');

interface Ran {
  readonly report: VerifyReport;
  readonly peakBytes: number;
  readonly readBytes: number;
}

const errors = ({ report }: Ran) => report.findings.filter(({ severity }) => severity === 'error');

/** The records and objects of a bundle replaced by something large, and the memory that it takes to find out. */
describe('verifying a bundle that was made to be too much', { timeout: 120_000 }, () => {
  let folder: string;
  let usual: Ran;
  let number = 0;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'exhibit-bounds-'));
    usual = await verified(() => undefined);
    expect(usual.report.intact).toBe(true);
  }, 60_000);
  afterAll(async () => rm(folder, { recursive: true }));

  async function verified(
    replace: (objects: Map<string, Buffer>) => void,
    change?: (manifest: Manifest, objects: Map<string, Buffer>) => void,
  ): Promise<Ran> {
    const { objects } = await custodyBundle(change === undefined ? {} : { change });
    replace(objects);
    number += 1;
    const bundle = join(folder, String(number));
    await writeTo(bundle, objects);
    const ran = run([process.execPath, CHILD, bundle]);
    await rm(bundle, { recursive: true });
    expect(ran.stderr).toBe('');
    return JSON.parse(ran.stdout.toString());
  }

  /** Of the resident set, above that of a bundle of a few KiB. */
  const grownMiB = (ran: Ran) => (ran.peakBytes - usual.peakBytes) / MIB;

  const tooMuch = 'manifest.json holds more than the 4000000 values that are read';
  const wrong = 'manifest.json has not the expected shape: ';
  const records: readonly (readonly [
    what: string,
    name: string,
    text: () => Buffer,
    code: string,
    words: string,
    mostMiB: number,
  ])[] = [
    [
      'ten million objects in its list',
      'manifest.json',
      () => Buffer.from(`{"objects":[${'{},'.repeat(1e7)}{}]}`),
      'manifest-invalid',
      tooMuch,
      200,
    ],
    [
      'millions of wrong objects in its list',
      'manifest.json',
      () => Buffer.from(`{"objects":[${'0,'.repeat(3.9e6)}0]}`),
      'manifest-invalid',
      wrong,
      400,
    ],
    [
      'JSON of thirty million levels',
      'manifest.json',
      () => Buffer.alloc(30 * MIB, '['),
      'manifest-invalid',
      'manifest.json nests deeper than the 64 levels that are read',
      150,
    ],
    [
      'a million keys',
      'manifest.json',
      () => Buffer.from(`{${Array.from({ length: 1e6 }, (_, n) => `"${n}":0`).join()}}`),
      'manifest-invalid',
      'manifest.json has an object with more than the 100000 keys that are read',
      150,
    ],
    [
      'a manifest of 100 MiB',
      'manifest.json',
      () => Buffer.alloc(100 * MIB, ' '),
      'object-size',
      'manifest.json is larger than any manifest.json is: 67108864 bytes',
      250,
    ],
    [
      'a seal of 100 MiB',
      'manifest.dsse.json',
      () => Buffer.alloc(100 * MIB, ' '),
      'object-size',
      'manifest.dsse.json is larger than any manifest.dsse.json is: 16777216 bytes',
      150,
    ],
    [
      'a seal with millions of signatures',
      'manifest.dsse.json',
      () => Buffer.from(`{"signatures":[${'0,'.repeat(7e6)}0]}`),
      'seal-invalid',
      'manifest.dsse.json: the seal holds more than the 4000000 values',
      150,
    ],
    [
      'a custody log of 100 MiB',
      CUSTODY_OBJECT,
      () => Buffer.alloc(100 * MIB, '\n'),
      'object-size',
      'custody.jsonl is larger than any custody.jsonl is: 16777216 bytes',
      200,
    ],
    [
      'a custody log of millions of lines',
      CUSTODY_OBJECT,
      () => Buffer.from('{}\n'.repeat(5e6)),
      'custody-broken',
      'line 1 of custody.jsonl: it is no event',
      200,
    ],
  ];
  for (const [what, name, text, code, words, mostMiB] of records) {
    it(`finds ${what}, in bounded memory`, async () => {
      const ran = await verified((objects) => void objects.set(name, text()));
      const found = errors(ran).find((finding) => finding.code === code && finding.object === name);
      expect(found?.message).toContain(words);
      expect(ran.report.intact).toBe(false);
      expect(grownMiB(ran)).toBeLessThan(mostMiB);
    });
  }

  /** The manifest says of `processes.tar.zst` what it is as stored, and that its content has `contentBytes`. */
  const declared = (bytes: Buffer, contentBytes: number) => (manifest: Manifest, objects: Map<string, Buffer>) => {
    objects.set('processes.tar.zst', bytes);
    const stored = { sha256: createHash('sha256').update(bytes).digest('hex'), sizeBytes: bytes.length };
    const content = { sha256: '0'.repeat(64), sizeBytes: contentBytes };
    for (const object of manifest.objects)
      if (object.name === 'processes.tar.zst') Object.assign(object, { stored, content });
  };

  const tableOf = (frames: readonly (readonly [stored: number, content: number])[]): Buffer => {
    const table = createSeekTable();
    for (const [stored, content] of frames) table.add(stored, content);
    return Buffer.from(table.encode());
  };

  it('ends a bomb of frames at the content that the manifest declares', async () => {
    const frame = Buffer.from(await compressFrame(Buffer.alloc(16 * MIB), 19));
    const frames = Array.from({ length: 4000 }, () => frame);
    const table = tableOf(frames.map(({ length }) => [length, 16 * MIB]));
    // 62 GiB of zeros.
    const bomb = Buffer.concat([...frames, table]);
    const ran = await verified(() => undefined, declared(bomb, 40 * MIB));
    const found = errors(ran).find(({ code }) => code === 'content-size');
    expect(found?.message).toContain(`the content is longer than the ${40 * MIB} bytes that the manifest says`);
    expect(grownMiB(ran)).toBeLessThan(200);
    expect(ran.readBytes).toBeLessThan(2 * bomb.length + usual.readBytes);
  });

  it('does not unpack the bomb at all where the manifest says that it ends early', async () => {
    const frame = Buffer.from(await compressFrame(Buffer.alloc(16 * MIB), 19));
    const bomb = Buffer.concat(Array.from({ length: 4000 }, () => frame));
    const ran = await verified(
      () => undefined,
      (manifest, objects) => {
        declared(bomb, 1)(manifest, objects);
        for (const object of manifest.objects) {
          if (object.name !== 'processes.tar.zst') continue;
          delete object.content;
          delete object.members;
          object.truncated = 'the agent died';
        }
      },
    );
    const found = ran.report.findings.find(({ code }) => code === 'object-truncated');
    expect(found?.message).toContain(`4000 whole frames of it can be read, ${4000 * 16 * MIB} bytes of content`);
    expect(grownMiB(ran)).toBeLessThan(100);
  });

  it('names a frame that yields more than it claims, claims more than any holds, or has a table that lies', async () => {
    const frame = Buffer.from(await compressFrame(Buffer.alloc(MIB, 'x'), 1));
    // Frame_Content_Size (RFC 8878, 3.1.1.1.4) of four bytes; before it the descriptor, and a window's if it is no single segment.
    const descriptor = frame.readUInt8(4);
    expect(descriptor >>> 6).toBe(2);
    const sizeAt = (descriptor & 0x20) === 0 ? 6 : 5;
    const claiming = (bytes: number) => {
      const lying = Buffer.from(frame);
      lying.writeUInt32LE(bytes, sizeAt);
      return lying;
    };
    const cases: readonly (readonly [Buffer, string])[] = [
      [Buffer.concat([claiming(300), tableOf([[frame.length, 300]])]), 'a zstd frame does not decompress'],
      [
        Buffer.concat([claiming(0xffffffff), tableOf([[frame.length, 0xffffffff]])]),
        'frame 0: the frame declares 4294967295 bytes',
      ],
      [Buffer.concat([frame, tableOf([[frame.length, 7]])]), 'the seek table does not agree with the frames before it'],
      [
        Buffer.concat([
          frame,
          tableOf([
            [frame.length, MIB],
            [1, 1],
          ]),
        ]),
        'the seek table does not agree with the frames before it',
      ],
      [Buffer.concat([frame, tableOf([])]), 'the seek table does not agree with the frames before it'],
    ];
    for (const [bytes, words] of cases) {
      const { objects } = await custodyBundle({ change: declared(bytes, MIB) });
      const report = await verifyBundle(readerOf(objects, 100_000));
      // Nothing else can be said of what is no archive.
      const found = report.findings.find(({ code }) => code === 'frames-corrupt');
      const said = found?.message ?? report.findings.map(({ message }) => message).join();
      expect(said).toContain(words);
    }
  });

  it('believes no declared size of a tebibyte', async () => {
    const ran = await verified(
      () => undefined,
      (manifest) => {
        for (const object of manifest.objects) {
          if (object.name === 'bodyfile.zst') object.stored.sizeBytes = 2 ** 40;
          if (object.name === 'rootfs.tar.zst' && object.content !== undefined) object.content.sizeBytes = 2 ** 40;
          for (const member of object.members ?? []) if (member.path === '4711/exe') member.sizeBytes = 2 ** 40;
        }
      },
    );
    const words = errors(ran).map(({ code, object }) => `${code} ${object}`);
    expect(words).toContain('object-size bodyfile.zst');
    expect(words).toContain('content-size rootfs.tar.zst');
    expect(words).toContain('member-size processes.tar.zst');
    expect(grownMiB(ran)).toBeLessThan(50);
  });

  it('names the record that has a key twice, and the key', async () => {
    for (const name of ['manifest.json', 'request.json', 'manifest.dsse.json', CUSTODY_OBJECT]) {
      const { objects } = await custodyBundle();
      const text = (objects.get(name) ?? '').toString();
      const key = /"(\w+)":/.exec(text)?.[1] ?? '';
      objects.set(name, Buffer.from(text.replace('{', `{"${key}":null,`)));
      const report = await verifyBundle(readerOf(objects));
      const found = report.findings.filter(({ object, message }) => object === name && message.includes(`"${key}"`));
      expect(found.map(({ message }) => message).join(), name).toMatch(/twice/);
      expect(report.intact).toBe(false);
    }
  });

  it('says that an object was renamed by its old name and its new one', async () => {
    const { objects } = await custodyBundle();
    const bytes = objects.get('bodyfile.zst') ?? Buffer.alloc(0);
    objects.delete('bodyfile.zst');
    objects.set('bodyfile.old.zst', bytes);
    const report = await verifyBundle(readerOf(objects));
    const found = report.findings
      .filter(({ severity }) => severity === 'error')
      .map(({ code, object }) => `${code} ${object}`);
    expect(found.sort()).toEqual(['object-missing bodyfile.zst', 'object-unlisted bodyfile.old.zst']);
  });

  it('lists no more of a folder than its bound', async () => {
    const { objects } = await custodyBundle({ tiny: true });
    const inner = readerOf(objects);
    let listed = 0;
    const report = await verifyBundle({
      ...inner,
      async *list() {
        yield* inner.list();
        for (; listed < 1e7; listed += 1) yield { name: `n${listed}`, sizeBytes: 0 };
      },
    });
    expect(listed).toBeLessThan(100_001);
    expect(report.findings.map(({ code }) => code)).toContain('list-failed');
  });
});
