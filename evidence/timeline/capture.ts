import { MANIFEST_OBJECT, REQUEST_OBJECT } from '../layout.ts';
import type { ArtifactRecord, Manifest, RequestRecord } from '../manifest.ts';
import { parseMoment } from './moment.ts';
import { CAPTURE_ARTIFACT, cutText, type Meaning, type TimelineEntry, type TimelineSource } from './timeline.ts';

/**
 * What the agent itself did, so that its traces can be told from anybody else's: artifact `capture`. And the moments that
 * memory and checkpoint show, which have no times of their own inside.
 */

export const captureSource: TimelineSource = {
  object: MANIFEST_OBJECT,
  async *read({ manifest, request }) {
    yield request === undefined ? [] : requestEntries(request);
    yield manifestEntries(manifest);
    yield manifest.artifacts.flatMap((artifact) => momentsOf(artifact, manifest));
  },
};

interface Told {
  readonly at: string | undefined;
  readonly message: string;
  readonly meaning: Meaning;
}

function entriesOf(
  told: readonly Told[],
  common: Omit<TimelineEntry, 'times' | 'message' | 'fields'>,
): TimelineEntry[] {
  return told.flatMap(({ at, message, meaning }) => {
    const ns = at === undefined ? undefined : parseMoment(at);
    return ns === undefined ? [] : [{ ...common, message: cutText(message), times: [{ ns, meaning }], fields: {} }];
  });
}

function requestEntries({ requestedAt, requester, selector, host, agent }: RequestRecord): TimelineEntry[] {
  const by = `${requester.identity}, by ${requester.trigger}`;
  const common = { artifact: CAPTURE_ARTIFACT, object: REQUEST_OBJECT } as const;
  return [
    ...entriesOf([{ at: host.bootTime, message: `node booted: ${host.kernel}`, meaning: 'started' }], {
      ...common,
      kind: 'node',
      dataType: 'linux:boot',
    }),
    ...entriesOf(
      [
        {
          at: requestedAt,
          message: `exhibit: capture of ${selector} requested (${by}); agent pid ${agent.pid}`,
          meaning: 'recorded',
        },
      ],
      { ...common, kind: 'capture', dataType: 'exhibit:capture' },
    ),
  ];
}

function manifestEntries(manifest: Manifest): TimelineEntry[] {
  const { startedAt, finishedAt, outcome, freeze, artifacts } = manifest;
  const told: Told[] = [
    { at: startedAt, message: 'exhibit: capture started', meaning: 'started' },
    { at: freeze.frozenAt, message: `exhibit: target frozen (${freeze.method})`, meaning: 'started' },
    { at: freeze.thawedAt, message: `exhibit: target thawed by the ${freeze.thawedBy ?? 'agent'}`, meaning: 'ended' },
    ...artifacts.filter(({ status }) => status !== 'skipped').flatMap(stepOf),
    { at: finishedAt, message: `exhibit: capture ${outcome}, sealed after this`, meaning: 'ended' },
  ];
  const common = { kind: 'capture', dataType: 'exhibit:capture', artifact: CAPTURE_ARTIFACT } as const;
  return entriesOf(told, { ...common, object: MANIFEST_OBJECT });
}

function stepOf({ name, status, gapCount, startedAt, finishedAt }: ArtifactRecord): Told[] {
  return [
    { at: startedAt, message: `exhibit: reading of ${name} began`, meaning: 'started' },
    { at: finishedAt, message: `exhibit: reading of ${name} ended: ${status}, gaps: ${gapCount}`, meaning: 'ended' },
  ];
}

/** Of memory, the freeze; where there was none, the time over which it was copied. Of a checkpoint, when it was made. */
function momentsOf(artifact: ArtifactRecord, { freeze }: Manifest): TimelineEntry[] {
  const { name, objects, startedAt, finishedAt } = artifact;
  const object = objects[0];
  if (object === undefined) return [];
  const common = { kind: 'process', artifact: name, object } as const;
  if (name === 'memory') {
    const frozen = freeze.consistency === 'frozen' && freeze.frozenAt !== undefined;
    const told: Told[] = frozen
      ? [
          {
            at: freeze.frozenAt,
            message: 'memory is as it was at this moment: the target stood still',
            meaning: 'recorded',
          },
        ]
      : [
          { at: startedAt, message: 'memory was read from here on while the target ran', meaning: 'started' },
          { at: finishedAt, message: 'memory was read until here', meaning: 'ended' },
        ];
    return entriesOf(told, { ...common, dataType: 'exhibit:memory' });
  }
  if (name !== 'checkpoint') return [];
  const by = typeof artifact.facts.checkpointBy === 'string' ? ` by ${artifact.facts.checkpointBy}` : '';
  const told: Told[] = [
    { at: startedAt, message: `checkpoint${by} begun`, meaning: 'started' },
    { at: finishedAt, message: `checkpoint${by} taken and stored`, meaning: 'ended' },
  ];
  return entriesOf(told, { ...common, dataType: 'exhibit:checkpoint' });
}
