import { expect, test } from 'vitest';
import type { CaptureRequest } from '../../../agent/capture/captures.ts';
import { requestRecord } from '../../../agent/capture/record.ts';
import { parseConfig } from '../../../agent/config.ts';
import type { Runtime, Target } from '../../../agent/runtime/runtime.ts';
import type { Sink } from '../../../agent/sink/sink.ts';
import { requestSchema } from '../../../evidence/manifest.ts';
import { generateSigner } from '../../../evidence/seal.ts';
import { createSealer } from '../../../evidence/sealer.ts';

const request: CaptureRequest = {
  captureId: '019aa000-0000-7000-8000-000000000001',
  selector: 'prod/web-0',
  artifacts: ['memory'],
  caseId: 'C-1',
  reason: '',
  consistency: 'frozen',
  scope: 'container',
  requester: { trigger: 'socket', identity: 'test' },
};

const record = {
  runtime: 'cri',
  kind: 'container',
  id: 'abcdef0123456789',
  name: 'web',
  labels: {},
  initPid: 7,
  pids: [7],
};
const found = {
  runtime: { identify: async () => ({ name: 'containerd', version: '2.1.9' }) } as unknown as Runtime,
  target: { record } as unknown as Target,
  plan: { consistency: 'live' as const, freezeDeadlineMs: 1000, bufferBytes: 0, steps: [] },
  sinks: ['west', 'here'].map((name) => ({ name, sink: {} as Sink })),
  signal: new AbortController().signal,
};
const parts = {
  config: parseConfig('sink: { url: "file:///e" }', 'test', {}),
  host: { procRoot: '/proc', hostRoot: '' },
  sealer: createSealer(generateSigner()),
  version: '0.0.0',
  now: Date.now,
};

test('the record of a request names the sinks of the capture, the exhibit and who acquires it', async () => {
  const given = { ...request, sinks: ['west', 'here'], exhibitNumber: 'KD/7', acquirer: 'DC Müller' };
  const made = await requestRecord(parts, request.captureId, given, found);
  expect(requestSchema.parse(made)).toMatchObject({
    sinks: ['west', 'here'],
    exhibitNumber: 'KD/7',
    acquirer: 'DC Müller',
  });
});

test('the record of a request that says no more has the sinks that the configuration says', async () => {
  const made = requestSchema.parse(await requestRecord(parts, request.captureId, request, found));
  expect(made.sinks).toEqual(['west', 'here']);
  expect(Object.keys(made)).not.toEqual(expect.arrayContaining(['exhibitNumber']));
  expect(Object.keys(made)).not.toEqual(expect.arrayContaining(['acquirer']));
});
