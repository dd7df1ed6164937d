import fc from 'fast-check';
import { validate, version } from 'uuid';
import { describe, expect, test } from 'vitest';
import { nameInPasswd } from '../../../agent/host/user-name.ts';
import { answerOf, answers, readAnswer } from '../../../agent/trigger/folder-answer.ts';
import { isRequestName, MAX_NAME_BYTES, plainName, rejectedName } from '../../../agent/trigger/folder-name.ts';
import { captureIdOf, MAX_REQUEST_BYTES, parseRequestFile } from '../../../agent/trigger/folder-request.ts';
import { isExhibitError } from '../../../evidence/error.ts';

const bytesOf = (value: unknown) => Buffer.from(JSON.stringify(value));

describe('a request file', () => {
  test.each([
    [{ target: 'prod/web-0/web' }, { pod: { namespace: 'prod', pod: 'web-0', container: 'web' } }],
    [
      { selector: { pod: { namespace: 'prod', pod: 'web-0' } } },
      { pod: { namespace: 'prod', pod: 'web-0', container: '' } },
    ],
    [{ target: 'app=web,tier=api' }, { labels: { labels: { app: 'web', tier: 'api' }, container: '' } }],
    [{ selector: { labels: { labels: { app: 'web' } } } }, { labels: { labels: { app: 'web' }, container: '' } }],
    [{ selector: { unit: 'nginx.service' } }, { unit: 'nginx.service' }],
    [{ selector: { pid: 17 } }, { pid: 17 }],
  ])('%j names its target as the socket takes it', (file, selector) => {
    expect(parseRequestFile('r.json', bytesOf(file)).selector).toEqual(selector);
  });

  test('may ask to pass a limit of the node, by true alone', () => {
    const forceOf = (more: object) => parseRequestFile('r.json', bytesOf({ target: 'pid:1', ...more })).force;
    expect([forceOf({}), forceOf({ force: true })]).toEqual([false, true]);
    expect(() => forceOf({ force: 'yes' })).toThrow(/force: expected boolean/);
  });

  test('of any bytes is read or refused with a sentence, never with another error', () => {
    const name = fc.constantFrom('r.json', 'r.yaml');
    const text = fc.oneof(
      fc.string(),
      fc.json(),
      fc.uint8Array({ maxLength: 200 }).map((raw) => Buffer.from(raw)),
    );
    fc.assert(
      fc.property(name, text, (file, content) => {
        try {
          expect(parseRequestFile(file, Buffer.from(content)).artifacts).toBeInstanceOf(Array);
        } catch (error) {
          expect(isExhibitError(error, 'usage'), String(error)).toBe(true);
          expect(String(error)).not.toMatch(/[\x00-\x08\x1b]/);
        }
      }),
      { numRuns: 500 },
    );
  });

  test('beyond its bound is refused', () => {
    expect(() => parseRequestFile('r.json', Buffer.alloc(MAX_REQUEST_BYTES + 1, 0x20))).toThrow(/larger than/);
  });
});

describe('the id of its capture', () => {
  const file = { node: 'n', name: 'r.json', sha256: 'ab', mtimeNs: 1_780_000_000_123_456_789n };

  test('is a UUIDv7 of the time of the file, the same each time', () => {
    const id = captureIdOf(file, 0);
    expect([validate(id), version(id), captureIdOf(file, 0)]).toEqual([true, 7, id]);
    expect(Number.parseInt(id.replaceAll('-', '').slice(0, 12), 16)).toBe(1_780_000_000_123);
  });

  test('is another one for another node, name, content, time or attempt', () => {
    const others = [
      captureIdOf({ ...file, node: 'm' }, 0),
      captureIdOf({ ...file, name: 's.json' }, 0),
      captureIdOf({ ...file, sha256: 'cd' }, 0),
      captureIdOf({ ...file, mtimeNs: file.mtimeNs + 1n }, 0),
      captureIdOf(file, 1),
    ];
    expect(new Set([captureIdOf(file, 0), ...others]).size).toBe(6);
  });

  test('is one for every time that a file can have', () => {
    fc.assert(
      fc.property(fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n), (mtimeNs) => {
        expect(version(captureIdOf({ ...file, mtimeNs }, 0))).toBe(7);
      }),
    );
  });
});

describe('a name', () => {
  test.each([
    ['r.json', true],
    ['r.yaml', true],
    ['.r.json', false],
    ['r.json.tmp', false],
    ['r.json.answer.json', false],
    ['r.yml', false],
    ['rejected', false],
  ])('%s is looked at: %s', (name, expected) => {
    expect(isRequestName(Buffer.from(name))).toBe(expected);
  });

  test('of any bytes lands in rejected/ under one that is short, visible and below that folder', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 250 }), (raw) => {
        const name = rejectedName(Buffer.concat([Buffer.from(raw), Buffer.from('.json')]));
        expect(Buffer.byteLength(name)).toBeLessThanOrEqual(MAX_NAME_BYTES);
        expect(name).toMatch(/^[^/\p{C}.][^/\p{C}]*\.json$/u);
      }),
    );
  });

  test('is at most so long', () => {
    expect(plainName(Buffer.from('n'.repeat(MAX_NAME_BYTES)))).toHaveProperty('name');
    expect(plainName(Buffer.from('n'.repeat(MAX_NAME_BYTES + 1)))).toHaveProperty('why');
  });
});

describe('an answer', () => {
  const file = { name: 'r.json', sha256: 'ab', mtimeNs: 5n };
  const answer = answerOf(file, { captureId: 'id', state: 'accepted' }, 0);

  test('is to the file whose name, content and time it has', () => {
    expect(readAnswer(bytesOf(answer))).toEqual(answer);
    expect(answers(answer, file, '')).toBe(true);
    for (const other of [{ name: 's.json' }, { sha256: 'cd' }, { mtimeNs: 6n }])
      expect(answers(answer, { ...file, ...other }, '')).toBe(false);
  });

  test('is to the id that the request brought, whenever its file was written', () => {
    expect(answers(answer, { ...file, mtimeNs: 6n }, 'ID')).toBe(true);
    expect(answers(answer, file, 'other')).toBe(false);
  });

  test.each(['', '{', 'null', '[]', '{"formatVersion":2}'])('is not what somebody else put there: %j', (text) => {
    expect(readAnswer(Buffer.from(text))).toBeUndefined();
  });
});

test('a uid has the name that passwd(5) gives it, if that is a name', () => {
  const passwd = 'root:x:0:0:root:/root:/bin/sh\nada:x:1000:1000::/:\nbad\u001bname:x:1001:1::/:\n::\n';
  expect([0, 1000, 1001, 7].map((uid) => nameInPasswd(passwd, uid))).toEqual(['root', 'ada', undefined, undefined]);
});
