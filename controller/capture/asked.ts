import { createHash } from 'node:crypto';
import { validate as isUuid, v7 as uuidv7 } from 'uuid';
import type { Selector } from '../../agent/runtime/runtime.ts';
import { selectorFromProto, selectorText } from '../../agent/runtime/select.ts';
import { ExhibitError } from '../../evidence/error.ts';
import type { ArtifactName } from '../../evidence/layout.ts';
import {
  ACQUIRER_CHARS,
  EXHIBIT_NUMBER_CHARS,
  oneLine,
  readArtifacts,
  readConsistency,
  readScope,
} from '../../evidence/request-words.ts';
import type { CreateCaptureRequest__Output } from '../../proto/gen/exhibit/controller/v1/CreateCaptureRequest.ts';
import type { Caller } from '../identity/identity.ts';
import { readCaseId, readName, readReason } from '../text.ts';

/** A request as it was asked, checked; nothing was looked up. */
export interface Asked {
  readonly requestId: string;
  /** SHA-256 in hex over who asked for what: the same request again is known by it. */
  readonly requestKey: string;
  readonly selector: Selector;
  /** Empty: every one. */
  readonly clusters: readonly string[];
  /** Empty: any. */
  readonly node: string;
  readonly namespace: string;
  readonly artifacts: readonly ArtifactName[];
  /** Empty, this and the next: what the agent's configuration says. */
  readonly consistency: string;
  readonly scope: string;
  readonly sinks: readonly string[];
  readonly caseId: string;
  readonly reason: string;
  readonly exhibitNumber: string;
  readonly acquirer: string;
  readonly maxTargets: number;
  readonly dryRun: boolean;
  readonly force: boolean;
}

/** A capture stops each of its targets: who wants more says so. */
const USUAL_MAX_TARGETS = 50;
/** More captures of one request than that are more than one transaction should hold. */
const MOST_TARGETS = 1_000;
/** An organisation's clusters, an agent's sinks: more names than that are no names. */
const MOST_CLUSTERS = 200;
const MOST_SINKS = 20;
const MOST_ARTIFACTS = 50;

/** Selectors of what is no container by itself: only its node can say what it is. */
export const isProcess = ({ kind }: Selector): boolean => kind === 'pid' || kind === 'cgroup' || kind === 'unit';

/** @throws ExhibitError `usage` */
export function readAsked(request: CreateCaptureRequest__Output, caller: Caller): Asked {
  if (request.selector === null) throw usage('The request names no target');
  const selector = selectorFromProto(request.selector);
  const asked = {
    requestId: readRequestId(request.requestId),
    selector,
    clusters: names('cluster', request.clusters, MOST_CLUSTERS),
    node: readName('node', request.node),
    namespace: readName('namespace', request.namespace),
    artifacts: readArtifacts(few('artifact', request.artifacts, MOST_ARTIFACTS)),
    consistency: readConsistency(request.consistency) ?? '',
    scope: readScope(request.scope) ?? '',
    sinks: names('sink', request.sinks, MOST_SINKS),
    caseId: readCaseId(request.caseId),
    reason: readReason(request.reason),
    exhibitNumber: oneLine('exhibit number', request.exhibitNumber, EXHIBIT_NUMBER_CHARS) ?? '',
    acquirer: oneLine("acquirer's name", request.acquirer, ACQUIRER_CHARS) ?? '',
    maxTargets: readMaxTargets(request.maxTargets),
    force: request.force,
  };
  if (isProcess(selector) && asked.node === '')
    throw usage(`${selectorText(selector)} is another thing on each node: say on which`);
  if (selector.kind === 'pod' && asked.namespace !== '' && asked.namespace !== selector.namespace)
    throw usage(`${selectorText(selector)} is in the namespace ${selector.namespace}, not in ${asked.namespace}`);
  if (isProcess(selector) && asked.namespace !== '')
    throw usage(`${selectorText(selector)} is in no namespace that the controller knows: leave the namespace out`);
  return { ...asked, requestKey: keyOf(asked, caller), dryRun: request.dryRun };
}

const usage = (message: string): ExhibitError => new ExhibitError('usage', message);

function readRequestId(text: string): string {
  if (text === '') return uuidv7();
  const requestId = text.toLowerCase();
  if (!isUuid(requestId)) throw usage('The request id is not a UUID: leave it out, or give one made by uuidgen');
  return requestId;
}

function readMaxTargets(asked: number): number {
  if (asked > MOST_TARGETS) throw usage(`One request captures ${MOST_TARGETS} targets at most, not ${asked}`);
  return asked === 0 ? USUAL_MAX_TARGETS : asked;
}

function few(what: string, given: readonly string[], most: number): readonly string[] {
  if (given.length > most) throw usage(`The request names ${given.length} ${what}s; ${most} is the most`);
  return given;
}

function names(what: string, given: readonly string[], most: number): readonly string[] {
  const read = few(what, given, most).map((name) => readName(`${what}'s name`, name));
  if (read.some((name) => name === '' || name.includes('*')))
    throw usage(`The name of a ${what} is empty or a pattern: name each by itself`);
  return [...new Set(read)];
}

function keyOf({ selector, ...rest }: Omit<Asked, 'requestKey' | 'dryRun'>, { by, name }: Caller): string {
  const { requestId: _, clusters, artifacts, sinks, force, ...others } = rest;
  // Left out where it is not asked for, so that a request of before there was such a thing is known again.
  const words = force ? { ...others, force } : others;
  const sets = [clusters, artifacts, sinks].map((set) => [...set].sort());
  const inOrder = Object.entries(words).sort(([a], [b]) => (a < b ? -1 : 1));
  const text = JSON.stringify([by, name, selectorText(selector), sets, inOrder]);
  return createHash('sha256').update(text).digest('hex');
}
