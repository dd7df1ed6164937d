import net from 'node:net';
import { describe, expect, test } from 'vitest';
import { createHandshakes } from '../../../../controller/tls/handshakes.ts';
import { createBoundedLog } from '../../../../controller/tls/words.ts';
import { collectLog } from '../../../lab/log-lines.ts';

const MAX = 2_048;

/** As one that was accepted: it has an address, and no handle. */
function socketOf(port: number): net.Socket {
  const socket = new net.Socket();
  Object.defineProperty(socket, 'remoteAddress', { value: '10.0.0.1' });
  Object.defineProperty(socket, 'remotePort', { value: port });
  return socket;
}

function open(now: () => number) {
  const told: string[] = [];
  return { told, handshakes: createHandshakes((peer, why) => void told.push(`${peer} ${why}`), now) };
}

describe('handshakes', () => {
  test('are ended after ten seconds, counted from their beginning and not from their last byte', () => {
    let nowMs = 0;
    const { handshakes } = open(() => nowMs);
    const [first, second] = [socketOf(1), socketOf(2)];
    handshakes.begin(first);
    nowMs = 5_000;
    handshakes.begin(second);
    first.emit('data', Buffer.alloc(1));
    nowMs = 9_999;
    handshakes.sweep();
    expect([first.destroyed, second.destroyed]).toEqual([false, false]);
    nowMs = 10_000;
    handshakes.sweep();
    expect([first.destroyed, second.destroyed]).toEqual([true, false]);
  });

  test('that are done in time are left alone', () => {
    let nowMs = 0;
    const { handshakes } = open(() => nowMs);
    const socket = socketOf(1);
    handshakes.begin(socket);
    expect(handshakes.done(socket)).toBe('10.0.0.1:1');
    expect(handshakes.done(socket)).toBeUndefined();
    nowMs = 60_000;
    handshakes.sweep();
    handshakes.endAll();
    expect(socket.destroyed).toBe(false);
  });

  test('are so many at once: one more ends the oldest, or itself when that one is young', () => {
    let nowMs = 0;
    const { handshakes, told } = open(() => nowMs);
    const sockets = Array.from({ length: MAX }, (_, index) => socketOf(index + 1));
    expect(sockets.every((socket) => handshakes.begin(socket))).toBe(true);
    nowMs = 999;
    const young = socketOf(MAX + 1);
    expect(handshakes.begin(young)).toBe(false);
    expect(young.destroyed).toBe(true);
    nowMs = 1_000;
    expect(handshakes.begin(socketOf(MAX + 2))).toBe(true);
    expect(sockets.flatMap(({ destroyed }, index) => (destroyed ? [index] : []))).toEqual([0]);
    expect(told).toEqual([
      `10.0.0.1:${MAX + 1} there are ${MAX} handshakes at once`,
      `10.0.0.1:1 there are ${MAX} handshakes at once, and its was the oldest`,
    ]);
  });

  test('that fail are told with the reason that was found, once', async () => {
    const { handshakes, told } = open(() => 0);
    const [known, unknown] = [socketOf(1), socketOf(2)];
    for (const socket of [known, unknown]) handshakes.begin(socket);
    handshakes.failing(known, 'it spoke Latin');
    const both = [known, unknown].map((socket) => new Promise((resolve) => socket.once('close', resolve)));
    known.destroy();
    unknown.destroy();
    await Promise.all(both);
    expect(told).toEqual(['10.0.0.1:1 it spoke Latin', '10.0.0.1:2 it hung up during the handshake']);
  });
});

describe('the log of refusals', () => {
  test('says fifty in ten seconds, and then how many it did not say', () => {
    let nowMs = 0;
    const { log, lines } = collectLog();
    const told = createBoundedLog(log, () => nowMs);
    for (let count = 0; count < 70; count += 1) told.warn({ count }, 'no');
    expect(lines).toHaveLength(50);
    nowMs = 10_000;
    told.warn({}, 'no');
    expect(lines.slice(50)).toMatchObject([{ untold: 20 }, { msg: 'no' }]);
  });
});
