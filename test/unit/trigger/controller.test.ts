import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { reconnectMs } from '../../../agent/trigger/controller.ts';
import { controllerSchema } from '../../../agent/trigger/controller-config.ts';
import { Debts } from '../../../agent/trigger/controller-debts.ts';
import { dialController } from '../../../agent/trigger/controller-dial.ts';
import { Outbox, type Writable } from '../../../agent/trigger/controller-outbox.ts';
import type { AgentMessage } from '../../../proto/gen/exhibit/controller/v1/AgentMessage.ts';
import { labPki } from '../../lab/pki.ts';

describe('the pause before dialling again', () => {
  const bounds = { firstMs: 2_000, maxMs: 15_000 };

  test('grows to its bound, and is drawn from nothing on', () => {
    expect([0, 1, 2, 3, 4, 1_000].map((failures) => reconnectMs(failures, bounds, 1))).toEqual([
      2_000, 4_000, 8_000, 15_000, 15_000, 15_000,
    ]);
    expect(reconnectMs(5, bounds, 0)).toBe(0);
  });

  test('is never beyond its bound', () => {
    fc.assert(
      fc.property(fc.nat(), fc.double({ min: 0, max: 1, noNaN: true }), (failures, random) => {
        expect(reconnectMs(failures, bounds, random)).toBeLessThanOrEqual(bounds.maxMs);
      }),
    );
  });
});

describe('the configuration of the controller', () => {
  const files = { caFile: '/ca.pem', certFile: '/node.pem', keyFile: '/node.key' };

  test.each(['controller.example:7443', '10.0.0.1:7443', '[2001:db8::1]:7443', 'c:1'])(
    'takes the address %s',
    (address) => {
      expect(controllerSchema.parse({ address, ...files }).reconnect).toEqual({ firstMs: 2_000, maxMs: 15_000 });
    },
  );

  test.each(['controller', 'https://controller:7443', 'a b:1', ':7443', 'unix:/run/x', 'dns:///a:1', '-a:1'])(
    'does not take %s',
    (address) => {
      expect(controllerSchema.safeParse({ address, ...files }).success).toBe(false);
    },
  );
});

describe('the certificates for a connection', () => {
  async function material() {
    const pki = await labPki();
    const agent = await pki.agent('prod', 'n1');
    const config = controllerSchema.parse({
      ...{ address: 'localhost:1', caFile: pki.caFile('controller') },
      ...{ certFile: agent.certFile, keyFile: agent.keyFile },
    });
    return { pki, config };
  }

  test('are good', async () => {
    const { pki, config } = await material();
    await using _pki = pki;
    const client = await dialController(config, Date.now());
    client.close();
  });

  test.each([
    ['is not there', undefined, /Cannot read controller\.KEY/],
    ['holds something else', 'hello', /controller\.KEY .* holds no/],
    ['is empty', '', /controller\.KEY .* holds no/],
  ])('are named when a file %s', async (_what, text, words) => {
    for (const key of ['caFile', 'certFile', 'keyFile'] as const) {
      const { pki, config } = await material();
      await using _pki = pki;
      const file = join(pki.folder, 'spoiled');
      if (text !== undefined) await writeFile(file, text);
      const expected = new RegExp(words.source.replace('KEY', key));
      await expect(dialController({ ...config, [key]: file }, Date.now())).rejects.toThrow(expected);
    }
  });

  test('are named when the key is of another certificate', async () => {
    const { pki, config } = await material();
    await using _pki = pki;
    const { keyFile } = await pki.agent('prod', 'n2');
    await expect(dialController({ ...config, keyFile }, Date.now())).rejects.toThrow(/is not the key of/);
  });

  test('are named when they have expired, or are not valid yet', async () => {
    const { pki, config } = await material();
    await using _pki = pki;
    const yearMs = 10 * 365 * 86_400_000;
    await expect(dialController(config, Date.now() + yearMs)).rejects.toThrow(/expired at .*renew it/);
    await expect(dialController(config, Date.now() - yearMs)).rejects.toThrow(/not valid before .*clock/);
  });
});

describe('what waits for the stream', () => {
  function call(takes: number) {
    const written: AgentMessage[] = [];
    let left = takes;
    let drained: () => void = () => undefined;
    const writable: Writable = {
      write: (message) => {
        written.push(message);
        left -= 1;
        return left > 0;
      },
      on: (_event, listener) => {
        drained = listener;
      },
    };
    const drain = (more: number) => {
      left = more;
      drained();
    };
    return { writable, written, drain };
  }
  const message = (captureId: string): AgentMessage => ({ received: { captureId } });
  const ids = (written: readonly AgentMessage[]) => written.map(({ received }) => received?.captureId);

  test('keeps its order, and of progress the latest of each capture', () => {
    const { writable, written, drain } = call(1);
    const outbox = new Outbox(writable, () => expect.fail('it ended'));
    outbox.send(message('a'));
    outbox.progress('p', message('p1'));
    outbox.send(message('b'));
    outbox.progress('p', message('p2'));
    outbox.progress('q', message('q1'));
    outbox.send(message('c'));
    expect(ids(written)).toEqual(['a']);
    drain(2);
    drain(10);
    expect(ids(written)).toEqual(['a', 'b', 'c', 'p2', 'q1']);
  });

  test('ends the stream at its bound, and loses progress before that', () => {
    const { writable, written } = call(1);
    let ended = 0;
    const outbox = new Outbox(writable, () => {
      ended += 1;
    });
    for (let count = 0; count < 10_000; count += 1) outbox.progress(`p${count}`, message('p'));
    for (let count = 0; count < 257; count += 1) outbox.send(message(String(count)));
    expect(ended).toBe(1);
    outbox.send(message('late'));
    expect(ended).toBe(1);
    expect(written.length).toBe(1);
  });

  test('lets what can wait wait, until there is room or no stream', async () => {
    const { writable, drain } = call(1);
    const outbox = new Outbox(writable, () => undefined);
    outbox.send(message('a'));
    let rooms = 0;
    const first = outbox.room().then(() => {
      rooms += 1;
    });
    await Promise.resolve();
    expect(rooms).toBe(0);
    drain(5);
    await first;
    expect(rooms).toBe(1);
  });
});

describe('captures that the controller may not know', () => {
  test('are told again on the next stream until a heartbeat behind them was answered', () => {
    const debts = new Debts();
    debts.owe('a');
    debts.owe('b');
    expect(debts.renew()).toEqual(['a', 'b']);
    debts.told('a');
    const mark = debts.mark();
    debts.told('b');
    debts.confirm(mark);
    expect(debts.renew()).toEqual(['b']);
    debts.confirm(mark);
    expect(debts.renew()).toEqual(['b']);
  });

  test('that changed after they were told are still owed', () => {
    const debts = new Debts();
    debts.owe('a');
    debts.told('a');
    const mark = debts.mark();
    debts.owe('a');
    debts.confirm(mark);
    expect(debts.renew()).toEqual(['a']);
  });

  test('are the latest thousand', () => {
    const debts = new Debts();
    for (let count = 0; count < 5_000; count += 1) debts.owe(String(count));
    const owed = debts.renew();
    expect(owed.length).toBe(1_000);
    expect([owed[0], owed.at(-1)]).toEqual(['4000', '4999']);
  });
});
