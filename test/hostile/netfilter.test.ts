import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { describeBtf, describeLink, describeMap, describeProgram, linkPointers } from '../../agent/host/bpf.ts';
import { conntrackAddresses, parseConntrack, parseConntrackText } from '../../agent/host/conntrack.ts';
import { jsonLine } from '../../agent/host/decode.ts';
import { parseInetDiag, parsePacketFilters, parseVsockDiag } from '../../agent/host/inet-diag.ts';
import { parseLegacy } from '../../agent/host/iptables-legacy.ts';
import { describeModules, parseModules } from '../../agent/host/modules.ts';
import { attributeList, encodeAttribute, encodeRequest, messages } from '../../agent/host/netlink.ts';
import { parseSctpAssociations, parseSctpEndpoints } from '../../agent/host/network-sctp.ts';
import { describeNftables, generationOf, setNames } from '../../agent/host/nftables.ts';
import { describeTrafficControl, filterPlaces } from '../../agent/host/traffic-control.ts';
import { dump, nftablesDumps, recording } from '../unit/fixtures/node/kernel-recording.ts';

/** A recording that was cut, or has some bytes changed: lengths that lie are among them. */
const damaged = (bytes: Uint8Array) =>
  fc
    .record({
      edits: fc.array(fc.tuple(fc.nat(), fc.oneof(fc.constantFrom(0, 1, 3, 4, 255), fc.nat(255))), { maxLength: 8 }),
      keep: fc.nat(bytes.length),
      cut: fc.boolean(),
    })
    .map(({ edits, keep, cut }) => {
      const copy = Buffer.from(cut ? bytes.subarray(0, keep) : bytes);
      for (const [at, value] of edits) if (copy.length > 0) copy[at % copy.length] = value;
      return copy;
    });

const lines = (values: Iterable<unknown>): string[] => [...values].map(jsonLine);
const isOneLine = (text: string): void => expect(text).not.toContain('\n');

describe('damaged answers of the kernel never throw, and always end', () => {
  test('rulesets of nftables', () => {
    const whole = nftablesDumps();
    for (const [kind, bytes] of whole) {
      fc.assert(
        fc.property(damaged(bytes), (input) => {
          lines(describeNftables(new Map([...whole, [kind, input]]))).forEach(isOneLine);
          for (const { set } of setNames(input)) expect(set.length).toBeLessThanOrEqual(input.length);
          generationOf(input);
        }),
        { numRuns: 150 },
      );
    }
  });

  test('tables of iptables', () => {
    for (const family of ['iptables', 'ip6tables'] as const) {
      const [info, entries] = [dump(`${family}-filter.info`), dump(`${family}-filter.entries`)];
      fc.assert(
        fc.property(damaged(info), damaged(entries), (head, table) => {
          lines(parseLegacy(family, head, table)).forEach(isOneLine);
          lines(parseLegacy(family, info, table)).forEach(isOneLine);
        }),
        { numRuns: 200 },
      );
    }
  });

  test('connections, as messages and as text', () => {
    fc.assert(
      fc.property(damaged(dump('conntrack.nlmsg')), damaged(Buffer.from(recording.conntrack)), (bytes, text) => {
        lines(parseConntrack(bytes)).forEach(isOneLine);
        for (const { body } of messages(bytes)) conntrackAddresses(body);
        lines(parseConntrackText(text)).forEach(isOneLine);
      }),
      { numRuns: 300 },
    );
  });

  test('sockets', () => {
    fc.assert(
      fc.property(damaged(dump('inet-tcp.nlmsg')), fc.uint8Array({ maxLength: 300 }), (bytes, text) => {
        lines(parseInetDiag(bytes)).forEach(isOneLine);
        lines(parseVsockDiag(bytes)).forEach(isOneLine);
        parsePacketFilters(bytes);
        lines(describeTrafficControl(bytes, bytes, bytes)).forEach(isOneLine);
        for (const place of filterPlaces(bytes)) expect(place.parent).toBeGreaterThan(0);
        const table = Buffer.concat([Buffer.from('heading\n'), text]);
        lines([...parseSctpAssociations(table), ...parseSctpEndpoints(table)]).forEach(isOneLine);
      }),
      { numRuns: 100 },
    );
  });

  test('structs of bpf(2), whole, cut, or of another type', () => {
    for (const { info } of recording.bpf) {
      fc.assert(
        fc.property(damaged(Buffer.from(info, 'base64')), (input) => {
          linkPointers(input);
          isOneLine(jsonLine(describeProgram(input, [], Date.now())));
          isOneLine(jsonLine(describeMap(input)));
          isOneLine(jsonLine(describeLink(input, { 16: input }, [1n])));
          isOneLine(jsonLine(describeBtf(input, input)));
        }),
        { numRuns: 100 },
      );
    }
  });

  test('lists of modules', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
        expect(parseModules(bytes).length).toBeLessThanOrEqual(401);
        lines(describeModules(bytes, [])).forEach(isOneLine);
      }),
    );
  });
});

test('traffic control with lengths that lie never throws, and ends', () => {
  const message = fc
    .tuple(fc.constantFrom(36, 44), fc.uint8Array({ minLength: 0, maxLength: 90 }))
    .map(([type, body]) => encodeRequest(type, 0, body));
  fc.assert(
    fc.property(fc.array(message, { maxLength: 4 }), (all) => {
      const bytes = Buffer.concat(all);
      lines(describeTrafficControl(bytes, bytes, bytes)).forEach(isOneLine);
      for (const { parent } of filterPlaces(bytes)) expect(parent).toBeGreaterThan(0);
    }),
    { numRuns: 200 },
  );
});

describe('nests without end', () => {
  test('of expressions are cut at a depth that rules do not reach', () => {
    // dynset (name) with its expression (attribute 7 of its data), a thousand times over.
    let expression = Buffer.alloc(0);
    const nest = (type: number, value: Buffer): Buffer => {
      const head = Buffer.alloc(4);
      head.writeUInt16LE(Math.min(0xffff, value.length + 4), 0);
      head.writeUInt16LE(type, 2);
      return Buffer.concat([head, value, Buffer.alloc((4 - (value.length % 4)) % 4)]);
    };
    for (let depth = 0; depth < 1000; depth += 1) {
      const data = nest(2, nest(7, expression));
      expression = Buffer.concat([encodeAttribute(1, Buffer.from('dynset')), data]);
      if (expression.length > 60_000) break;
    }
    const body = Buffer.concat([Buffer.from([1, 0, 0, 0]), nest(4, nest(1, expression))]);
    const [rule] = [...describeNftables(new Map([['rules', encodeRequest((10 << 8) | 6, 0, body)]]))];
    expect(rule).toMatchObject({ object: 'rule' });
    expect(jsonLine(rule).split('dynset').length).toBeLessThan(6);
  });

  test('and a length of zero does not keep the walk where it is', () => {
    expect([...attributeList(Buffer.alloc(64))]).toEqual([]);
    expect([...messages(Buffer.alloc(64))]).toEqual([]);
  });
});
