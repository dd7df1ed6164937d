import { ENCRYPTED_SUFFIX, FORMAT_VERSION, storedName } from '../../evidence/layout.ts';
import type {
  ArtifactRecord,
  ChainLink,
  FreezeRecord,
  Gap,
  Manifest,
  Plan,
  PlanStep,
  RequestRecord,
  SinkRecord,
  StoredObject,
} from '../../evidence/manifest.ts';
import type { DraftObject, DraftState, Ended } from './draft.ts';

/** Pure: what the manifest in one sink says, once every object of the draft is settled there. */

export interface SinkManifestInput {
  readonly state: Readonly<DraftState>;
  readonly ended: Ended;
  readonly sink: SinkRecord;
  /** Who seals; not always who captured. */
  readonly agent: RequestRecord['agent'];
  readonly link: ChainLink;
  /** `custody.jsonl`, and `request.json` where it had to be written again. */
  readonly more: readonly StoredObject[];
}

export function sinkManifest({ state, ended, sink, agent, link, more }: SinkManifestInput): Manifest {
  const { request } = state;
  const again = new Set(more.map(storedName));
  const objects = [...state.objects.values()].filter(({ name }) => !again.has(name));
  const listed = withoutLostLists(objects.flatMap((object) => inSink(object, sink.name)));
  const artifacts = request.plan.steps.map((step) => artifactInSink(step, { state, ended, sink, objects, listed }));
  const broken = artifacts.some(({ status }) => status === 'partial' || status === 'failed');
  return {
    formatVersion: FORMAT_VERSION,
    captureId: state.captureId,
    cluster: request.cluster,
    node: request.node,
    outcome: ended.outcome === 'complete' && broken ? 'partial' : ended.outcome,
    startedAt: state.startedAt,
    finishedAt: ended.finishedAt,
    target: ended.target,
    freeze: state.freeze ?? notFrozen(state, ended),
    artifacts,
    objects: [...listed, ...more],
    agent,
    sink,
    chain: link,
    nodeBytesWritten: ended.nodeBytesWritten,
  };
}

/** The object's record as far as its bytes are there: nothing for what was lost. */
function inSink({ name, mediaType, record, ends }: DraftObject, sink: string): StoredObject[] {
  const end = ends.get(sink);
  if (end?.kind === 'stored') return record === undefined ? [] : [record];
  if (end?.kind !== 'cut') return [];
  const { sizeBytes, sha256, why } = end;
  const stored = { sizeBytes, sha256 };
  // Of an encrypted object whose end nobody saw there is no record yet.
  if (record === undefined && name.endsWith(ENCRYPTED_SUFFIX)) {
    const own = name.slice(0, -ENCRYPTED_SUFFIX.length);
    return [{ name: own, mediaType, stored, truncated: why, encryption: 'age' }];
  }
  const encryption = record?.encryption === undefined ? {} : { encryption: record.encryption };
  const { name: own, mediaType: type } = record ?? { name, mediaType };
  return [{ name: own, mediaType: type, stored, truncated: why, ...encryption }];
}

/** An archive whose list is not whole has no list. */
function withoutLostLists(objects: readonly StoredObject[]): StoredObject[] {
  const whole = new Set(objects.filter(({ truncated }) => truncated === undefined).map(({ name }) => name));
  return objects.map((object) => {
    const { membersIn, ...rest } = object;
    return membersIn === undefined || whole.has(membersIn) ? object : rest;
  });
}

interface InSink extends Pick<SinkManifestInput, 'state' | 'ended' | 'sink'> {
  readonly objects: readonly DraftObject[];
  readonly listed: readonly StoredObject[];
}

function artifactInSink(step: PlanStep, { state, ended, sink, objects, listed }: InSink): ArtifactRecord {
  const record = state.artifacts.find(({ name }) => name === step.artifact) ?? withoutRecord(step, state, ended);
  const own = objects.filter(({ artifact }) => artifact === step.artifact);
  const names = new Set(own.map(({ name }) => name));
  const here = listed.filter((object) => names.has(storedName(object)));
  const gaps = own.flatMap((object) => gapOf(object, sink.name, ended.finishedAt));
  const bytesStored = here.reduce((total, { stored }) => total + stored.sizeBytes, 0);
  const worse =
    gaps.length === 0 || record.status === 'failed'
      ? {}
      : here.length > 0
        ? { status: 'partial' as const }
        : { status: 'failed' as const, reason: record.reason ?? `nothing of it is in ${sink.name}` };
  return {
    ...record,
    ...worse,
    objects: here.map(({ name }) => name),
    gaps: [...record.gaps, ...gaps],
    gapCount: record.gapCount + gaps.length,
    notes: [...record.notes, ...own.flatMap((object) => elsewhere(object, sink.name))],
    footprint: { ...record.footprint, bytesStored },
  };
}

/** Of an artifact that was under way when the capture ended, or that had not begun. */
function withoutRecord(step: PlanStep, state: DraftState, ended: Ended): ArtifactRecord {
  const startedAt = state.steps.get(step.artifact);
  const footprint = { wallMs: 0, cpuMs: 0, pauseMs: 0, bytesRead: 0, bytesStored: 0, filesOpened: 0 };
  const skipped = startedAt === undefined;
  const reason = step.action === 'skip' ? step.reason : ended.why;
  const gap = {
    what: step.artifact,
    why: `${ended.why}: what it would have read after that is not known`,
    at: ended.finishedAt,
  };
  return {
    name: step.artifact,
    status: skipped ? 'skipped' : 'partial',
    reason,
    objects: [],
    gaps: skipped ? [] : [gap],
    gapCount: skipped ? 0 : 1,
    notes: [],
    facts: {},
    startedAt: startedAt ?? ended.finishedAt,
    finishedAt: ended.finishedAt,
    footprint,
  };
}

/** What of an object that was opened is not in the sink. */
function gapOf({ name, record, ends }: DraftObject, sink: string, at: string): Gap[] {
  const end = ends.get(sink);
  const whole = record === undefined ? 'an unknown number of' : `${record.stored.sizeBytes}`;
  if (end?.kind === 'cut') {
    const { sizeBytes, why } = end;
    return [
      { what: name, why: `from byte ${sizeBytes} of ${whole} stored bytes on nothing is in ${sink}: ${why}`, at },
    ];
  }
  if (end?.kind === 'stored' && record !== undefined) return [];
  const why =
    end === undefined || end.kind === 'stored' || end.kind === 'waiting' ? 'its digest is not known' : end.why;
  return [{ what: name, why: `none of its ${whole} stored bytes is in ${sink}: ${why}`, at }];
}

/** What other sinks have less of than this one might: a reader who has both bundles need not wonder. */
function elsewhere({ name, ends }: DraftObject, here: string): string[] {
  return [...ends].flatMap(([sink, end]) =>
    sink === here || end.kind === 'stored' || end.kind === 'waiting'
      ? []
      : [`the sink ${sink} has not all of ${name}: ${end.why}`],
  );
}

function notFrozen({ freezing, request }: DraftState, ended: Ended): FreezeRecord {
  if (freezing === undefined) return liveRecord(request.plan);
  const note =
    ended.why === ''
      ? 'the target was to be stopped; whether it was, and when it ran again, was not noted'
      : `${ended.why} while the target was being stopped, or stood still; a guard thawed it, when is not known`;
  return { consistency: 'live', method: freezing, pauseMs: 0, notes: [note] };
}

function liveRecord(plan: Plan): FreezeRecord {
  const wanted = plan.consistency === 'frozen';
  return {
    consistency: 'live',
    method: 'none',
    pauseMs: 0,
    notes: [wanted ? 'no step stopped the target' : 'the plan reads the target as it runs'],
  };
}
