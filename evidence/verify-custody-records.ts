import type { CustodyEvent } from './custody.ts';
import type { Findings } from './findings.ts';
import { CUSTODY_OBJECT } from './layout.ts';
import type { Manifest, RequestRecord, StoredObject } from './manifest.ts';
import type { Records } from './verify-records.ts';

/**
 * The custody log against request and manifest. What one of them says and the other contradicts is an error; what one of
 * them leaves out is a warning.
 */

/** An event is noted after the thing was done, by a process that may have been busy. */
export const EVENT_TOLERANCE_MS = 5000;

/** Events after which an object is in the sink, as its facts say. */
const OBJECT_EVENTS: readonly CustodyEvent['event'][] = ['object-stored', 'object-delivered', 'object-cut'];

export function compareCustody(events: readonly CustodyEvent[], records: Records, findings: Findings): void {
  const manifest = records.manifest?.value;
  const where = { object: CUSTODY_OBJECT };
  const judge: Judge = {
    contradicts: (message) => findings.add('error', 'custody-disagrees', message, where),
    leavesOut: (message) => findings.add('warning', 'custody-disagrees', message, where),
  };
  const own = events.filter(({ facts }) => isAbout(facts.sink, manifest));
  if (records.request !== undefined) compareRequest(own, records.request.value, judge);
  if (manifest === undefined) return;
  const sealedFor = events.findLast(({ event }) => event === 'sealing')?.facts.sink;
  if (!isAbout(sealedFor, manifest)) {
    judge.contradicts(`the log was sealed for sink ${sealedFor}, the manifest for ${manifest.sink?.name}`);
  }
  compareFreeze(own, manifest, judge);
  compareOutcome(own, manifest, judge);
  compareArtifacts(own, manifest, judge);
  compareObjects(own, manifest, judge);
}

interface Judge {
  contradicts(message: string): void;
  leavesOut(message: string): void;
}

/** A capture may go to several sinks; what happened in another one is not about this bundle. */
function isAbout(sink: unknown, manifest: Manifest | undefined): boolean {
  return typeof sink !== 'string' || manifest?.sink === undefined || sink === manifest.sink.name;
}

function compareRequest(events: readonly CustodyEvent[], request: RequestRecord, judge: Judge): void {
  const { trigger, identity } = request.requester;
  for (const { sequence, event, by, facts } of events) {
    if (facts.captureId !== undefined && facts.captureId !== request.captureId) {
      judge.contradicts(`event ${sequence} is of capture ${facts.captureId}, the request of ${request.captureId}`);
    }
    if (event !== 'requested') continue;
    if (!by.includes(identity)) judge.contradicts(`it was requested by ${by} says the log, by ${identity} the request`);
    if (facts.trigger !== undefined && facts.trigger !== trigger) {
      judge.contradicts(`the request came by ${facts.trigger} says the log, by ${trigger} the request`);
    }
    if (facts.caseId !== undefined && facts.caseId !== request.caseId) {
      judge.contradicts(`the case is ${facts.caseId} in the log, ${request.caseId ?? 'none'} in the request`);
    }
  }
}

function compareFreeze(events: readonly CustodyEvent[], { freeze }: Manifest, judge: Judge): void {
  const moments = [
    ['frozen', freeze.frozenAt],
    ['thawed', freeze.thawedAt],
  ] as const;
  for (const [name, time] of moments) {
    if (time === undefined) continue;
    const times = events.filter(({ event }) => event === name).map(({ at }) => Date.parse(at));
    if (times.length === 0) judge.leavesOut(`the manifest has the target ${name} at ${time}; the log does not say so`);
    else if (times.every((at) => Math.abs(at - Date.parse(time)) > EVENT_TOLERANCE_MS)) {
      judge.contradicts(`the manifest has the target ${name} at ${time}; the log at another time`);
    }
  }
}

function compareOutcome(events: readonly CustodyEvent[], { outcome }: Manifest, judge: Judge): void {
  const claimed = events.findLast(({ event }) => event === 'sealing')?.facts.outcome;
  if (claimed !== undefined && claimed !== outcome) {
    judge.contradicts(`the outcome is ${claimed} in the log, ${outcome} in the manifest`);
  }
  const has = (name: CustodyEvent['event']) => events.some(({ event }) => event === name);
  if (outcome === 'cancelled' && !has('cancelled')) judge.leavesOut('nobody cancelled the capture, says the log');
  if (outcome === 'truncated' && !has('recovered') && !has('sink-failed'))
    judge.leavesOut('no agent recovered the capture, says the log, and no sink failed');
}

function compareArtifacts(events: readonly CustodyEvent[], manifest: Manifest, judge: Judge): void {
  const status = new Map<string, string>(manifest.artifacts.map((artifact) => [artifact.name, artifact.status]));
  for (const { sequence, event, facts } of events) {
    if (event !== 'artifact-ended' || typeof facts.artifact !== 'string') continue;
    const found = status.get(facts.artifact);
    if (found === undefined) {
      judge.contradicts(`event ${sequence} ends artifact ${facts.artifact}, which the manifest does not have`);
    } else if (facts.status !== undefined && facts.status !== found) {
      judge.contradicts(`artifact ${facts.artifact} is ${facts.status} in the log, ${found} in the manifest`);
    }
  }
}

function compareObjects(events: readonly CustodyEvent[], manifest: Manifest, judge: Judge): void {
  const listed = new Map(manifest.objects.map((object) => [object.name, object]));
  /** The last word of the log about each object. */
  const said = new Map<string, CustodyEvent>();
  for (const event of events) {
    if (OBJECT_EVENTS.includes(event.event) && typeof event.facts.object === 'string')
      said.set(event.facts.object, event);
  }
  for (const [name, event] of said) {
    const object = listed.get(name);
    if (object !== undefined) compareObject(object, event, judge);
    // Of what was cut nothing may be left.
    else if (event.event !== 'object-cut') {
      judge.contradicts(`${name} was stored, says event ${event.sequence}; the manifest does not list it`);
    }
  }
  if (said.size === 0) return;
  for (const name of manifest.artifacts.flatMap(({ objects }) => objects)) {
    if (listed.has(name) && !said.has(name)) judge.leavesOut(`the log does not say that ${name} was stored`);
  }
}

function compareObject({ name, stored }: StoredObject, { sequence, facts }: CustodyEvent, judge: Judge): void {
  if (facts.sha256 !== undefined && facts.sha256 !== stored.sha256) {
    judge.contradicts(`event ${sequence} has another SHA-256 of ${name} than the manifest`);
  } else if (facts.sizeBytes !== undefined && facts.sizeBytes !== stored.sizeBytes) {
    judge.contradicts(`event ${sequence} has ${facts.sizeBytes} bytes of ${name}, the manifest ${stored.sizeBytes}`);
  }
}
