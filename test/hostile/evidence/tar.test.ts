import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { isExhibitError } from '../../../evidence/error.ts';
import { checksum, encodeHeader } from '../../../evidence/tar-header.ts';
import { createTarObserver, readTar } from '../../../evidence/tar-reader.ts';
import { gather, pieces } from '../../unit/evidence/memory-sink.ts';
import { requireProgram } from '../../unit/evidence/programs.ts';
import { fc } from '../../unit/evidence/properties.ts';
import { archiveOf, SAMPLES } from '../../unit/evidence/tar-samples.ts';

async function readAll(bytes: Uint8Array, pieceBytes = 4096): Promise<string[]> {
  const names: string[] = [];
  for await (const entry of readTar(pieces(bytes, pieceBytes))) {
    names.push(entry.path);
    for await (const _ of entry.body);
  }
  return names;
}

async function outcome(bytes: Uint8Array): Promise<string> {
  try {
    return (await readAll(bytes)).join();
  } catch (error) {
    expect(isExhibitError(error, 'bundle-corrupt'), String(error)).toBe(true);
    return String(error);
  }
}

/** A header block with fields of our own, and a good checksum. */
function forged(change: (block: Buffer) => void): Buffer {
  const block = Buffer.from(encodeHeader({ path: 'victim', type: 'file', sizeBytes: 0 }));
  change(block);
  block.write('        ', 148, 'latin1');
  block.write(`${checksum(block).toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
}

const END = Buffer.alloc(1024);

describe('a tar that somebody else made', () => {
  it('is read or called corrupt, whatever its bytes', async () => {
    await fc.assert(fc.asyncProperty(fc.uint8Array({ maxLength: 2000 }), async (bytes) => void (await outcome(bytes))));
    await outcome(randomBytes(1_000_000));
  });

  it('is read or called corrupt with any byte of a good archive changed', async () => {
    const { bytes } = await archiveOf(SAMPLES);
    for (let round = 0; round < 1500; round += 1) {
      const changed = Buffer.from(bytes);
      changed[Math.floor(Math.random() * bytes.length)] = Math.floor(Math.random() * 256);
      await outcome(changed);
    }
  });

  it('is called cut wherever it is cut', async () => {
    const { bytes } = await archiveOf(SAMPLES.slice(0, 8));
    for (let length = 0; length < bytes.length - 1023; length += 97) {
      await expect(readAll(bytes.subarray(0, length))).rejects.toThrow(/damaged/);
    }
  });

  it('is called corrupt when something follows its end', async () => {
    const { bytes } = await archiveOf(SAMPLES.slice(0, 1));
    await expect(readAll(Buffer.concat([bytes, Buffer.from('hidden')]))).rejects.toThrow(/after the end/);
    expect(await readAll(Buffer.concat([bytes, Buffer.alloc(8192)]))).toEqual(['plain.txt']);
  });

  it('does not make room for a pax header of eight gigabytes', async () => {
    const bomb = forged((block) => {
      block.write('x', 156);
      block.write('77777777777', 124);
    });
    await expect(readAll(Buffer.concat([bomb, Buffer.alloc(4096)]))).rejects.toThrow(/extended header of/);
  });

  it('refuses a size beyond what a number can say, and a negative one', async () => {
    for (const field of ['807fffffffffffffffffffff', 'ffffffffffffffffffffffff', 'ff0000000000000000000000']) {
      const lying = forged((block) => block.write(field, 124, 'hex'));
      await expect(readAll(Buffer.concat([lying, END]))).rejects.toThrow(/impossible size/);
    }
  });

  it('refuses a pax size that is no number', async () => {
    for (const size of ['-1', '1e3', '9007199254740993', ' 5', '0x10']) {
      const record = `${size.length + 9} size=${size}\n`;
      const body = Buffer.alloc(512);
      body.write(record);
      const pax = forged((block) => {
        block.write('x', 156);
        block.write(record.length.toString(8).padStart(11, '0'), 124);
      });
      await expect(readAll(Buffer.concat([pax, body, forged(() => undefined), END]))).rejects.toThrow(/damaged/);
    }
  });

  it('refuses pax records that overlap, have no end, or are too many', async () => {
    const records = [
      '0 a=b\n',
      '99 a=b\n',
      '6 a=bc',
      'x a=b\n',
      '5 ab\n\n',
      '-6 a=b\n',
      ' a=b\n',
      '4 a\n',
      '6 a=b\n'.repeat(70_000),
    ];
    for (const record of records) {
      const body = Buffer.alloc(Math.ceil(record.length / 512) * 512);
      body.write(record);
      const pax = forged((block) => {
        block.write('x', 156);
        block.write(record.length.toString(8).padStart(11, '0'), 124);
      });
      await expect(
        readAll(Buffer.concat([pax, body, forged(() => undefined), END])),
        record.slice(0, 20),
      ).rejects.toThrow(/damaged/);
    }
  });

  it('gives names that climb out as they are, and leaves them to whoever writes files', async () => {
    const { bytes } = await archiveOf([
      { header: { path: '../../etc/passwd', type: 'file', sizeBytes: 0 } },
      { header: { path: '/absolute', type: 'symlink', linkPath: '/etc' } },
    ]);
    expect(await readAll(bytes)).toEqual(['../../etc/passwd', '/absolute']);
  });

  it('passes over a body that nobody reads, and one that is left in the middle', async () => {
    const { bytes } = await archiveOf(SAMPLES.slice(0, 6));
    const names: string[] = [];
    for await (const entry of readTar(pieces(bytes, 100))) {
      names.push(entry.path);
      if (names.length === 3) for await (const _ of entry.body) break;
    }
    expect(names).toHaveLength(6);
  });

  it('does not stop an observer: it says why and lets the stream pass', () => {
    const observer = createTarObserver();
    expect(observer.write(randomBytes(2000))).toEqual([]);
    expect(observer.write(randomBytes(2000))).toEqual([]);
    expect(observer.end()).toMatch(/damaged/);
  });

  for (const format of ['gnu', 'ustar', 'pax', 'v7', 'oldgnu']) {
    it(`made by GNU tar in the ${format} format is read whole`, async (context) => {
      requireProgram(context, 'tar');
      const name = 'd'.repeat(format === 'v7' ? 50 : 80);
      const script = `set -e; cd "$(mktemp -d)"; mkdir -p ${name}; echo body > ${name}/file${'x'.repeat(format === 'gnu' ? 200 : 10)}; ln -s x ${name}/link; tar --format=${format} -cf - ${name}; rm -r "$PWD"`;
      const bytes = execFileSync('sh', ['-c', script]);
      const bodies = new Map<string, string>();
      for await (const entry of readTar(pieces(bytes, 512))) {
        bodies.set(`${entry.header.type} ${entry.path.slice(0, 85)}`, (await gather(entry.body)).toString());
      }
      expect([...bodies.keys()].sort().map((key) => key.split(' ')[0])).toEqual(['directory', 'file', 'symlink']);
      expect([...bodies.values()]).toContain('body\n');
    });
  }
});
