import { ExhibitError } from '../../evidence/error.ts';
import {
  ACQUIRER_CHARS,
  EXHIBIT_NUMBER_CHARS,
  oneLine,
  readArtifacts,
  readConsistency,
  readScope,
} from '../../evidence/request-words.ts';
import type { CaptureRequest__Output } from '../../proto/gen/exhibit/v1/CaptureRequest.ts';
import type { CaptureRequest } from '../capture/captures.ts';
import { selectorFromProto, selectorText } from '../runtime/select.ts';
import { unknownSink } from '../sink/several.ts';

/** What the configuration says where a request says nothing. */
export type RequestDefaults = Pick<CaptureRequest, 'artifacts' | 'consistency' | 'scope'>;

/** The message as a request. @throws ExhibitError `usage` */
export function readRequest(
  request: CaptureRequest__Output,
  { defaults, sinks }: { defaults: RequestDefaults; sinks: readonly string[] },
): Omit<CaptureRequest, 'requester'> {
  const artifacts = readArtifacts(request.artifacts);
  const consistency = readConsistency(request.consistency) ?? defaults.consistency;
  const scope = readScope(request.scope) ?? defaults.scope;
  if (request.selector === null) throw new ExhibitError('usage', 'The request names no target');
  const strange = request.sinks.filter((name) => !sinks.includes(name));
  if (strange.length > 0) throw unknownSink(strange, sinks);
  const exhibitNumber = oneLine('exhibit number', request.exhibitNumber, EXHIBIT_NUMBER_CHARS);
  const acquirer = oneLine("acquirer's name", request.acquirer, ACQUIRER_CHARS);
  return {
    captureId: request.captureId,
    selector: selectorText(selectorFromProto(request.selector)),
    artifacts: artifacts.length === 0 ? defaults.artifacts : artifacts,
    ...(artifacts.length === 0 ? { artifactsByDefault: true } : {}),
    caseId: request.caseId,
    reason: request.reason,
    consistency,
    scope,
    ...(request.sinks.length === 0 ? {} : { sinks: request.sinks }),
    ...(exhibitNumber === undefined ? {} : { exhibitNumber }),
    ...(acquirer === undefined ? {} : { acquirer }),
    ...(request.force ? { force: true as const } : {}),
  };
}
