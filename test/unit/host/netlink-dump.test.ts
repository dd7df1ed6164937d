import { closeSync, openSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { SystemError } from '../../../agent/host/libc.ts';
import { encodeRequest } from '../../../agent/host/netlink.ts';
import { type NetlinkCalls, readDump } from '../../../agent/host/netlink-calls.ts';

const INTERRUPTED = 0x10;
const DONE = encodeRequest(3, 0, Buffer.alloc(4));
const entry = (text: string, flags = 0) => encodeRequest(0x100, flags, Buffer.from(text));

/** A kernel that answers each dump with the next of these lists of packets; descriptors are real, as they are closed. */
function kernelOf(...answers: (Buffer | Error)[][]): NetlinkCalls & { asked: number } {
  let packets: (Buffer | Error)[] = [];
  const calls = {
    asked: 0,
    setns: () => {},
    socket: () => openSync('/dev/null', 'r'),
    timeout: () => {},
    send: () => {
      packets = [...(answers[Math.min(calls.asked, answers.length - 1)] ?? [])];
      calls.asked += 1;
    },
    receive: (_fd: number, into: Buffer) => {
      const packet = packets.shift();
      if (packet instanceof Error) throw packet;
      return packet?.copy(into) ?? 0;
    },
    getOption: () => 0,
  };
  return calls;
}

const ask = { protocol: 12, request: Buffer.alloc(0), limitBytes: 1000 };

describe('a dump', () => {
  test('is all packets until its end', () => {
    const calls = kernelOf([entry('one'), Buffer.concat([entry('two'), DONE])]);
    expect(readDump(calls, ask)).toEqual({
      kind: 'read',
      bytes: Buffer.concat([entry('one'), entry('two'), DONE]),
      truncated: false,
      interrupted: false,
    });
  });

  test('that was interrupted is asked for again', () => {
    const calls = kernelOf([entry('torn', INTERRUPTED), DONE], [entry('whole'), DONE]);
    const reading = readDump(calls, ask);
    expect(reading).toMatchObject({ kind: 'read', interrupted: false });
    expect(reading.kind === 'read' && reading.bytes.includes('whole')).toBe(true);
    expect(calls.asked).toBe(2);
  });

  test('that is always interrupted is taken after three times, and says so', () => {
    const calls = kernelOf([entry('torn', INTERRUPTED), DONE]);
    expect(readDump(calls, ask)).toMatchObject({ kind: 'read', interrupted: true });
    expect(calls.asked).toBe(3);
  });

  test('is cut behind its limit, and one that ends just there is not', () => {
    const long = entry('x'.repeat(1500));
    expect(readDump(kernelOf([long, entry('more'), DONE]), ask)).toMatchObject({ truncated: true, bytes: long });
    expect(readDump(kernelOf([Buffer.concat([long, DONE])]), ask)).toMatchObject({ truncated: false });
  });

  test('that is refused or lost has the errno', () => {
    const refusal = Buffer.alloc(4);
    refusal.writeInt32LE(-1);
    expect(readDump(kernelOf([encodeRequest(2, 0, refusal)]), ask)).toEqual({ kind: 'failed', errno: 'EPERM' });
    const lost = new SystemError('ENOBUFS', 'recv');
    expect(readDump(kernelOf([entry('one'), lost]), ask)).toEqual({ kind: 'failed', errno: 'ENOBUFS' });
  });

  test('that is sifted keeps what is wanted, counts the rest, and stays a dump', () => {
    const calls = kernelOf([entry('ours'), entry('theirs'), entry('ours'), DONE]);
    const keep = (body: Buffer) => body.includes('ours');
    expect(readDump(calls, { ...ask, keep })).toMatchObject({
      bytes: Buffer.concat([entry('ours'), entry('ours'), DONE]),
      seen: 3,
    });
    expect(readDump(kernelOf([entry('theirs'), entry('ours')]), { ...ask, keep, scanBytes: 10 })).toMatchObject({
      truncated: true,
    });
  });

  test('leaves no descriptor open', () => {
    const next = () => {
      const fd = openSync('/dev/null', 'r');
      closeSync(fd);
      return fd;
    };
    const before = next();
    readDump(kernelOf([DONE]), ask);
    readDump(kernelOf([new SystemError('ENOBUFS', 'recv')]), ask);
    expect(next()).toBe(before);
  });
});
