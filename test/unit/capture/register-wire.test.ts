import fc from 'fast-check';
import { expect, test } from 'vitest';
import { decodeThread, encodeThread, wireThread } from '../../../agent/capture/register-wire.ts';
import { stopOf } from '../../../agent/host/registers.ts';

const zeroTailed = fc.tuple(fc.uint8Array({ maxLength: 64 }), fc.nat(64)).map(([bytes, zeros]) => {
  return Uint8Array.from([...bytes, ...new Uint8Array(zeros)]);
});

test('register sets arrive as they were read, zeros at their end included', () => {
  fc.assert(
    fc.property(zeroTailed, zeroTailed, zeroTailed, (general, floating, vectors) => {
      const sets = [
        { type: 1, bytes: general },
        { type: 2, bytes: floating },
        { type: 0x202, bytes: vectors },
      ];
      const line: unknown = JSON.parse(JSON.stringify(encodeThread({ tid: 7, sets })));
      const extra = [{ type: 0x202, bytes: vectors }];
      expect(decodeThread(wireThread.parse(line))).toEqual({ general, floating, extra });
    }),
  );
});

test('a thread without general registers has none', () => {
  expect(decodeThread({ tid: 7, sets: [] })).toBeUndefined();
});

test('a set that claims to be huge is refused before it is made', () => {
  expect(wireThread.safeParse({ tid: 7, sets: [[1, 2 ** 40, '']] }).success).toBe(false);
});

test('a stop for a signal passes the signal on; a trap, a group stop and an end do not', () => {
  // wait(2): 0x7f is a stop, the signal is above it; ptrace(2): PTRACE_EVENT_STOP is 128 above that.
  expect(stopOf(0x0a7f)).toEqual({ signal: 10 });
  expect(stopOf(0x80057f)).toEqual({ signal: 0 });
  expect(stopOf(0x80137f)).toEqual({ signal: 0 });
  expect(stopOf(0x0009)).toBe('gone');
  expect(stopOf(0x0100)).toBe('gone');
});
