import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import protobuf from 'protobufjs';
import { describe, expect, test } from 'vitest';
import { packageVersion } from '../../../cli/version.ts';
import { openapi } from '../../../controller/api/openapi.ts';
import { configSchemas } from '../../lab/config-schemas.ts';
import { protoBreaks } from '../../lab/proto-changes.ts';
import { RECORDED, RELEASES, type Release } from '../../lab/recorded-call.ts';
import { currentDescriptor, recordedDescriptor } from '../../lab/recorded-descriptor.ts';
import { type Json, schemaBreaks } from '../../lab/schema-changes.ts';

/** What was released stays understood: docs/compatibility.md. */

const recorded = (release: Release, file: string): Json =>
  JSON.parse(readFileSync(join(RECORDED, release, file), 'utf8')) as Json;

test('the release before this one is recorded', () => {
  expect(readdirSync(RECORDED).sort()).toEqual([...RELEASES].sort());
  const [major = 0, minor = 0] = packageVersion().split('.').map(Number);
  // 0.1 was the first.
  const before = major === 0 && minor === 1 ? [] : [`${major}.${minor - 1}`];
  expect([...RELEASES]).toEqual(expect.arrayContaining(before));
});

describe.each(RELEASES)('since %s', (release) => {
  test('no message, field, number or call of the .proto files was taken away or given another meaning', () => {
    expect(Object.keys(recordedDescriptor(release).nested?.exhibit ?? {})).toEqual(['nested']);
    expect(protoBreaks(recordedDescriptor(release), currentDescriptor())).toEqual([]);
  });

  test('no path, method, field or value of the JSON API was taken away', () => {
    const now = JSON.parse(JSON.stringify(openapi())) as Json;
    expect(schemaBreaks(recorded(release, 'openapi.json'), now)).toEqual([]);
  });

  test('no key or value of the configurations was taken away, and none has become a duty', () => {
    expect(schemaBreaks(recorded(release, 'config.json'), configSchemas())).toEqual([]);
  });
});

const described = (body: string): protobuf.INamespace =>
  protobuf.parse(`syntax = "proto3"; package p; ${body}`, { keepCase: true }).root.toJSON();

const OLD = `
  enum E { ZERO = 0; ONE = 1; }
  message M { string a = 1; repeated uint32 b = 2; oneof o { string c = 3; string d = 4; } map<string, string> e = 5; reserved 9; reserved "z"; }
  message N { M m = 1; message Inner { bool x = 1; } }
  service S { rpc Call(M) returns (stream N); }
`;

/** What is said of the file with one thing in it replaced. */
const changed = (from: string, to: string): string[] => {
  expect(OLD).toContain(from);
  return protoBreaks(described(OLD), described(OLD.replace(from, to)));
};

describe('a later .proto file', () => {
  test.each([
    ['a field', 'reserved 9;', 'string f = 6; reserved 9;'],
    ['a member of a oneof', 'string d = 4;', 'string d = 4; string g = 7;'],
    ['a value of an enum', 'ONE = 1;', 'ONE = 1; TWO = 2;'],
    ['a message', 'message N', 'message P { string a = 1; } message N'],
    ['a call', 'rpc Call(M)', 'rpc Other(M) returns (N); rpc Call(M)'],
    ['more that is reserved', 'reserved 9;', 'reserved 8 to 12;'],
    ['the reservation of what it leaves out', 'string a = 1;', 'reserved 1; reserved "a";'],
  ])('may add %s', (_what, from, to) => {
    expect(changed(from, to)).toEqual([]);
  });

  test.each([
    ['takes a field away', 'string a = 1;', '', 'p.M.a is gone and its number 1 and name a not reserved'],
    ['reserves the number only', 'string a = 1;', 'reserved 1;', 'p.M.a is gone and its name a not reserved'],
    ['uses a number again', 'string a = 1;', 'string other = 1;', 'p.M.a is gone and its number 1 is that of other'],
    ['gives a field another number', 'string a = 1;', 'string a = 6;', 'p.M.a had number 1 and has 6'],
    ['gives it another type', 'string a = 1;', 'bytes a = 1;', 'p.M.a was string and is bytes'],
    ['makes one of many', 'repeated uint32 b', 'uint32 b', 'p.M.b was repeated uint32 and is uint32'],
    [
      'changes a map',
      'map<string, string> e',
      'map<uint32, string> e',
      'p.M.e was map<string> string and is map<uint32> string',
    ],
    [
      'moves a field into a oneof',
      'string a = 1; repeated uint32 b = 2; oneof o {',
      'repeated uint32 b = 2; oneof o { string a = 1;',
      'p.M.a is in another oneof',
    ],
    ['takes a message away', 'message Inner { bool x = 1; }', '', 'p.N.Inner is gone'],
    ['takes a call away', 'rpc Call(M) returns (stream N);', '', 'p.S.Call is gone'],
    [
      'streams what was not',
      'rpc Call(M)',
      'rpc Call(stream M)',
      'p.S.Call was (M) returns (stream N) and is (stream M) returns (stream N)',
    ],
    ['takes a value of an enum away', 'ONE = 1;', '', 'p.E.ONE is gone'],
    ['gives it another number', 'ONE = 1;', 'ONE = 2;', 'p.E.ONE was 1 and is 2'],
    ['forgets what was reserved', 'reserved 9;', '', 'p.M reserves 9-9 no more'],
  ])('that %s is told of', (_what, from, to, breach) => {
    expect(changed(from, to)).toEqual([breach]);
  });
});

const SCHEMA = {
  paths: {
    '/v1/a': {
      get: { responses: { 200: { type: 'object', required: ['x'], properties: { x: { type: 'string' } } } } },
    },
  },
  body: {
    type: 'object',
    required: ['a'],
    properties: {
      a: { type: 'string', maxLength: 10 },
      b: { enum: ['one', 'two'] },
      c: { type: 'integer', default: 5 },
    },
    additionalProperties: false,
  },
} as const;

/** The schema with one thing in its JSON text replaced. */
function schemaChanged(from: string, to: string): string[] {
  const text = JSON.stringify(SCHEMA);
  expect(text).toContain(from);
  return schemaBreaks(SCHEMA as unknown as Json, JSON.parse(text.replace(from, to)) as Json);
}

describe('a later schema', () => {
  test.each([
    ['a path', '"paths":{', '"paths":{"/v1/b":{},'],
    ['a method', '"get":', '"post":{},"get":'],
    ['a field', '"properties":{"a"', '"properties":{"d":{"type":"string"},"a"'],
    ['a promise of an answer', '"required":["x"]', '"required":["x","y"]'],
    ['a value', '["one","two"]', '["one","zero","two"]'],
    ['room', '"maxLength":10', '"maxLength":20'],
    ['a choice where there was a duty', '"required":["a"]', '"required":[]'],
  ])('may add %s', (_what, from, to) => {
    expect(schemaChanged(from, to)).toEqual([]);
  });

  test.each([
    ['takes a path away', '"/v1/a"', '"/v1/b"', '#/paths//v1/a is gone'],
    ['takes a method away', '"get"', '"post"', '#/paths//v1/a/get is gone'],
    ['takes a field away', '"c":{', '"d":{', '#/body/properties/c is gone'],
    [
      'gives it another type',
      '"type":"string","maxLength"',
      '"type":"number","maxLength"',
      '#/body/properties/a/type was "string" and is "number"',
    ],
    ['takes a value away', '["one","two"]', '["one"]', '#/body/properties/b/enum has no "two" any more'],
    ['gives it another default', '"default":5', '"default":6', '#/body/properties/c/default is another'],
    ['narrows a bound', '"maxLength":10', '"maxLength":9', '#/body/properties/a/maxLength was 10 and is 9'],
    ['sets a bound', '"type":"integer"', '"type":"integer","minimum":1', '#/body/properties/c/minimum is a new bound'],
    ['makes a duty of a choice', '"required":["a"]', '"required":["a","b"]', '#/body/b is required now'],
    [
      'takes a promise back',
      '"required":["x"]',
      '"required":[]',
      '#/paths//v1/a/get/responses/200/x is not promised now',
    ],
  ])('that %s is told of', (_what, from, to, breach) => {
    expect(schemaChanged(from, to)).toEqual([breach]);
  });
});
