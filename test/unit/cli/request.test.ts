import { describe, expect, test } from 'vitest';
import { asContainerId, asPid } from '../../../agent/runtime/runtime.ts';
import { createRequest } from '../../../cli/controller/capture.ts';
import { captureRequest, parseArtifacts, parseCaptureId, parseSinks, withContainer } from '../../../cli/request.ts';

describe('--container', () => {
  const pod = { kind: 'pod', namespace: 'n', pod: 'p' } as const;

  test('names the container where the target leaves it open', () => {
    expect(withContainer(pod, 'c')).toEqual({ ...pod, container: 'c' });
    expect(withContainer({ ...pod, container: 'c' }, 'c')).toEqual({ ...pod, container: 'c' });
    expect(withContainer({ kind: 'labels', labels: new Map() }, 'c')).toMatchObject({ container: 'c' });
    expect(withContainer(pod, undefined)).toBe(pod);
  });

  test('is refused where it contradicts the target or means nothing', () => {
    expect(() => withContainer({ ...pod, container: 'a' }, 'b')).toThrow('only one');
    expect(() => withContainer({ kind: 'pid', pid: asPid(7) }, 'b')).toThrow('leave --container out');
    expect(() => withContainer({ kind: 'container', id: asContainerId('abcd') }, 'b')).toThrow('leave --container out');
  });
});

test('artifact names are trimmed, kept in order, each once', () => {
  expect(parseArtifacts(' memory, logs,memory,')).toEqual(['memory', 'logs']);
});

test('artifact names that nobody knows, or none, are refused with the list of those there are', () => {
  expect(() => parseArtifacts('memory,Disk,x')).toThrow('There is no artifact Disk, x: choose from processes, network');
  expect(() => parseArtifacts(' , ')).toThrow('--artifacts names nothing');
});

test('a capture id is any UUID, in lower case', () => {
  expect(parseCaptureId('019CAB12-7B00-7A10-8000-5F2C0A7E9B11')).toBe('019cab12-7b00-7a10-8000-5f2c0a7e9b11');
  for (const text of ['', '7', '../../etc', '019cab12-7b00-7a10-8000-5f2c0a7e9b11/..']) {
    expect(() => parseCaptureId(text)).toThrow('is not a UUID');
  }
});

test('--force is said to the agent and to a controller, and not said where it is not asked for', () => {
  const selector = { kind: 'pid', pid: asPid(7) } as const;
  const both = (options: { force?: boolean }) => [
    captureRequest(selector, { captureId: 'id', ...options }).force,
    createRequest(selector, { requestId: 'id', ...options }).force,
  ];
  expect(both({ force: true })).toEqual([true, true]);
  expect(both({})).toEqual([undefined, undefined]);
});

test("what was not asked for stays empty, so that the agent's configuration decides", () => {
  expect(captureRequest({ kind: 'pid', pid: asPid(7) }, { captureId: 'id' })).toEqual({
    captureId: 'id',
    selector: { pid: 7 },
    artifacts: [],
    caseId: '',
    reason: '',
    consistency: '',
    scope: '',
    sinks: [],
    exhibitNumber: '',
    acquirer: '',
  });
});

test('sinks are named with commas or one by one, each once', () => {
  expect(parseSinks('here', parseSinks('west, here'))).toEqual(['west', 'here']);
  for (const text of ['', ' , ', 'a,']) expect(() => parseSinks(text)).toThrow('--sink wants names of sinks');
});
