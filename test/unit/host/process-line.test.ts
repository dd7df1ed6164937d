import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { jsonLine, OPEN } from '../../../agent/host/decode.ts';
import { createBlocks } from '../../../agent/host/decode-blocks.ts';
import { terminalName } from '../../../agent/host/decode-flags.ts';
import { createJsonLines } from '../../../agent/host/decode-jsonl.ts';
import { remembering } from '../../../agent/host/decode-memo.ts';
import { type Filling, fillTemplate } from '../../../agent/host/decode-template.ts';
import { readCodeStarts } from '../../../agent/host/process-code.ts';
import { readDescriptors } from '../../../agent/host/process-read-descriptors.ts';
import { environmentOf } from '../../../agent/host/process-words.ts';

const scratch = mkdtempSync(path.join(tmpdir(), 'exhibit-line-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const bytes = (text: string) => Buffer.from(text, 'latin1');

function filled(value: object, fieldOf: (key: string) => Filling): string {
  const blocks = createBlocks();
  fillTemplate(Buffer.from(jsonLine(value)), fieldOf, blocks.write);
  return Buffer.concat(blocks.pieces).toString();
}

describe('a line with open fields', () => {
  test('becomes what it would have been with its values from the start', () => {
    const json = fc.dictionary(
      fc.string(),
      fc.oneof(fc.string({ unit: 'binary' }), fc.integer(), fc.constant(undefined)),
    );
    fc.assert(
      fc.property(json, fc.array(fc.string({ unit: 'binary' })), (value, open) => {
        const whole = { ...value, '': 0, later: open, never: undefined };
        const text = filled({ ...whole, later: OPEN, never: OPEN }, (key) =>
          key === 'later' ? { value: open } : undefined,
        );
        expect(text).toBe(jsonLine(whole));
      }),
    );
  });

  test('takes JSON that somebody else writes', () => {
    expect(filled({ a: 1, b: OPEN, c: 2 }, () => ({ write: (write) => write('[7]') }))).toBe('{"a":1,"b":[7],"c":2}');
  });

  test('is not opened by a NUL that a process put into a name', () => {
    expect(JSON.parse(filled({ a: '\0b\0', c: OPEN }, () => ({ value: 1 })))).toEqual({ a: '\0b\0', c: 1 });
  });
});

describe('blocks', () => {
  test('have what was written and added, in order, and say where what was added is', () => {
    const bytes = fc.uint8Array({ maxLength: 50 }).map((array) => Buffer.from(array));
    const part = fc.record({ bytes, from: fc.nat(20), to: fc.nat(60) });
    fc.assert(
      fc.property(fc.array(fc.oneof(fc.string({ unit: 'binary' }), bytes, part)), (pieces) => {
        const blocks = createBlocks(16);
        const added: [Buffer, Buffer][] = [];
        const expected: Buffer[] = [];
        for (const piece of pieces) {
          if (typeof piece === 'string') {
            blocks.write(piece);
            expected.push(Buffer.from(piece));
          } else if (Buffer.isBuffer(piece)) {
            added.push([blocks.add(piece), piece]);
            expected.push(piece);
          } else {
            const to = Math.min(piece.to, piece.bytes.length);
            blocks.write(piece.bytes, piece.from, to);
            expected.push(piece.bytes.subarray(piece.from, Math.max(piece.from, to)));
          }
        }
        const whole = Buffer.concat(expected);
        expect(Buffer.concat(blocks.pieces)).toEqual(whole);
        for (const [place, piece] of added) expect(place.equals(piece)).toBe(true);
        expect(blocks.sizeBytes).toBe(whole.length);
      }),
    );
  });

  test('make JSON lines of values and of what writes itself', () => {
    const lines = createJsonLines('x');
    lines.push({ b: 1, a: 'é' });
    lines.push((write: (text: string) => void) => write('{}'));
    const part = lines.end();
    expect(Buffer.concat(part?.pieces ?? []).toString()).toBe('{"a":"é","b":1}\n{}\n');
    expect(part?.sizeBytes).toBe(20);
  });
});

describe('what is remembered', () => {
  test('is taken for the same bytes only, whatever the order they come in', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 2 })), (inputs) => {
        const parse = remembering((input) => ({ list: [...input] }));
        for (const input of inputs) expect(jsonLine(parse(Buffer.from(input)))).toBe(jsonLine({ list: [...input] }));
      }),
    );
  });
});

describe('descriptors like those of the process before', () => {
  const place = (pid: number, target: string, info: string) => {
    const base = path.join(scratch, String(pid));
    mkdirSync(`${base}/fd`, { recursive: true });
    mkdirSync(`${base}/fdinfo`);
    symlinkSync(target, `${base}/fd/3`);
    writeFileSync(`${base}/fdinfo/3`, info);
    return readDescriptors(base, false).descriptors[0];
  };
  const info = 'pos:\t0\nflags:\t02\nmnt_id:\t9\nino:\t5\n';

  test('are the same reading, so that they are analysed once', () => {
    const file = path.join(scratch, 'file');
    writeFileSync(file, 'x');
    expect(place(1, file, info)).toBe(place(2, file, info));
  });

  test('are read anew when the position, the inode or the link says something else, or where the kernel tells no inode', () => {
    const file = path.join(scratch, 'file');
    const first = place(3, file, info);
    expect(place(4, file, info.replace('pos:\t0', 'pos:\t1'))).not.toBe(first);
    expect(place(5, file, info.replace('ino:\t5', 'ino:\t6'))).not.toBe(first);
    expect(place(6, '/etc/passwd', info)?.target).toBe('/etc/passwd');
    const old = info.replace('ino:\t5\n', '');
    expect(place(7, file, old)).not.toBe(place(8, file, old));
  });

  test('are read anew when the file has lost its name, because its text says too little then', () => {
    const file = path.join(scratch, 'gone (deleted)');
    writeFileSync(file, 'x');
    expect(place(9, file, info)).not.toBe(place(10, file, info));
  });
});

describe('executable memory without a file', () => {
  const maps = (lines: string[]) => bytes(lines.map((line) => `${line}\n`).join(''));

  test('of a process whose memory cannot be read is left out, and the kernel’s own is not asked for', () => {
    const starts = readCodeStarts(path.join(scratch, 'nobody'), maps(['1000-2000 rwxp 00000000 00:00 0 ']));
    expect([...starts]).toEqual([]);
  });

  test('is looked up in pagemap first, and what is not there is not read', () => {
    const base = path.join(scratch, 'memory');
    mkdirSync(base);
    const pagemap = Buffer.alloc(8 * 8);
    pagemap.writeBigUInt64LE(1n << 63n, 8);
    pagemap.writeBigUInt64LE(1n << 62n, 16);
    writeFileSync(`${base}/pagemap`, pagemap);
    const memory = Buffer.alloc(0x4000);
    memory.write('\x7fELF', 0x1000, 'latin1');
    writeFileSync(`${base}/mem`, memory);
    const lines = [
      '00001000-00002000 rwxp 00000000 00:00 0 [anon:a name]',
      '00002000-00003000 r-xp 00000000 00:00 0 [heap]',
      '00003000-00004000 r-xp 00000000 00:00 0 [vdso]',
      '00004000-00005000 r-xp 00000000 08:01 7 /bin/true',
      '00005000-00006000 rw-p 00000000 00:00 0 ',
    ];
    expect([...readCodeStarts(base, maps(lines))]).toEqual([
      ['1000', { resident: true, elf: true, firstBytes: `7f454c46${'00'.repeat(60)}` }],
      ['2000', { resident: false }],
    ]);
  });
});

describe('words', () => {
  test('an environment keeps its order, its doubles and the bytes that are not UTF-8', () => {
    expect(environmentOf(bytes('A=1\0A=2\0no equals\0B=\xff\0\0'))).toEqual({
      environmentNames: ['A', 'A', 'no equals', 'B'],
      environment: ['A=1', 'A=2', 'no equals', 'B=\ufffd'],
      environmentBase64: bytes('A=1\0A=2\0no equals\0B=\xff\0\0').toString('base64'),
    });
    expect(environmentOf(bytes(`A=${'x'.repeat(200_000)}`))).toMatchObject({ environmentTruncated: true });
  });

  test('terminals have the names that they have below /dev', () => {
    const device = (major: number, minor: number) => (major << 8) | (minor & 0xff) | ((minor & 0xfff00) << 12);
    expect(terminalName(0)).toBeUndefined();
    expect(terminalName(device(136, 3))).toBe('pts/3');
    expect(terminalName(device(137, 0))).toBe('pts/256');
    expect(terminalName(device(136, 70_000))).toBe('pts/70000');
    expect(terminalName(device(4, 1))).toBe('tty1');
    expect(terminalName(device(4, 65))).toBe('ttyS1');
    expect(terminalName(device(5, 1))).toBe('console');
    expect(terminalName(device(229, 0))).toBe('229:0');
  });
});
