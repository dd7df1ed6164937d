import { expect, test } from 'vitest';
import { describeCauses, describeFailure, failureOf } from '../../../cli/failure.ts';
import { Interruption } from '../../../cli/session.ts';
import { ExhibitError } from '../../../evidence/error.ts';

const enoent = Object.assign(new Error('ENOENT: no such file'), { code: 'ENOENT' });

test('wrong usage and a wrong configuration exit 2, everything else that fails exits 1', () => {
  expect(failureOf(new ExhibitError('usage', 'x')).exitCode).toBe(2);
  expect(failureOf(new ExhibitError('config', 'x')).exitCode).toBe(2);
  expect(failureOf(new ExhibitError('sink-failed', 'x')).exitCode).toBe(1);
  expect(failureOf(new Error('x')).exitCode).toBe(1);
  expect(failureOf('x').exitCode).toBe(1);
});

test('leaving with a signal exits as a shell says it', () => {
  expect(failureOf(new Interruption('SIGINT'))).toMatchObject({ code: 'interrupted', exitCode: 130 });
  expect(failureOf(new Interruption('SIGTERM')).exitCode).toBe(143);
});

test("a message without a full stop is followed by the reason of the system, but never by a library's", () => {
  const ours = new ExhibitError('config', 'Cannot read a.yaml', { cause: enoent });
  expect(failureOf(ours).message).toBe('Cannot read a.yaml: ENOENT: no such file');
  expect(failureOf(new ExhibitError('config', 'Whole sentence.', { cause: enoent })).message).toBe('Whole sentence.');
  const library = new ExhibitError('internal', 'It failed', { cause: new Error('[{"zod": "says"}]') });
  expect(failureOf(library).message).toBe('It failed');
});

test('what nobody foresaw says how to report it', () => {
  expect(failureOf(new TypeError('x is not a function')).message).toContain('EXHIBIT_DEBUG=1');
});

test('a failure moves no cursor, and further lines of it are indented', () => {
  const failure = failureOf(new ExhibitError('internal', 'a\nb\x1b[2J.'));
  expect(describeFailure(failure, { json: false })).toBe('exhibit: a\n  b\\x1b[2J.\n');
  expect(JSON.parse(describeFailure(failure, { json: true }))).toEqual({
    error: { code: 'internal', message: 'a\nb\x1b[2J.' },
  });
});

test('a chain of causes that is a loop ends', () => {
  const loop = new Error('loop');
  loop.cause = loop;
  expect(describeCauses(loop).match(/^caused by/gm)).toHaveLength(7);
});
