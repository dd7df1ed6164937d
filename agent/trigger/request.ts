import { ExhibitError } from '../../evidence/error.ts';
import { ARTIFACTS, isArtifactName } from '../../evidence/layout.ts';
import type { CaptureRequest__Output } from '../../proto/gen/exhibit/v1/CaptureRequest.ts';
import type { CaptureRequest } from '../capture/captures.ts';
import { SCOPES } from '../runtime/runtime.ts';
import { selectorFromProto, selectorText } from '../runtime/select.ts';
import { unknownSink } from '../sink/several.ts';

/** What the configuration says where a request says nothing. */
export type RequestDefaults = Pick<CaptureRequest, 'artifacts' | 'consistency' | 'scope'>;

/** Room for any numbering that courts use; it goes on a printed line. */
const EXHIBIT_NUMBER_CHARS = 100;
/** A name, a rank, an office. */
const ACQUIRER_CHARS = 200;

/** The message as a request. @throws ExhibitError `usage` */
export function readRequest(
  request: CaptureRequest__Output,
  { defaults, sinks }: { defaults: RequestDefaults; sinks: readonly string[] },
): Omit<CaptureRequest, 'requester'> {
  const unknown = request.artifacts.filter((name) => !isArtifactName(name));
  if (unknown.length > 0)
    throw new ExhibitError('usage', `There is no artifact ${unknown.join(', ')}; choose among ${ARTIFACTS.join(', ')}`);
  const { consistency } = request;
  if (consistency !== '' && consistency !== 'frozen' && consistency !== 'live') {
    throw new ExhibitError('usage', `Consistency is frozen or live, not ${JSON.stringify(consistency)}`);
  }
  const scope = request.scope === '' ? defaults.scope : SCOPES.find((one) => one === request.scope);
  if (scope === undefined) {
    throw new ExhibitError('usage', `Scope is container or pod, not ${JSON.stringify(request.scope)}`);
  }
  if (request.selector === null) throw new ExhibitError('usage', 'The request names no target');
  const strange = request.sinks.filter((name) => !sinks.includes(name));
  if (strange.length > 0) throw unknownSink(strange, sinks);
  const exhibitNumber = oneLine('exhibit number', request.exhibitNumber, EXHIBIT_NUMBER_CHARS);
  const acquirer = oneLine("acquirer's name", request.acquirer, ACQUIRER_CHARS);
  return {
    captureId: request.captureId,
    selector: selectorText(selectorFromProto(request.selector)),
    artifacts: request.artifacts.length === 0 ? defaults.artifacts : request.artifacts.filter(isArtifactName),
    ...(request.artifacts.length === 0 ? { artifactsByDefault: true } : {}),
    caseId: request.caseId,
    reason: request.reason,
    consistency: consistency === '' ? defaults.consistency : consistency,
    scope,
    ...(request.sinks.length === 0 ? {} : { sinks: request.sinks }),
    ...(exhibitNumber === undefined ? {} : { exhibitNumber }),
    ...(acquirer === undefined ? {} : { acquirer }),
  };
}

/** These end up on a printed record: one line, that nothing in it can turn around or blank. */
function oneLine(what: string, text: string, mostChars: number): string | undefined {
  if (text === '') return undefined;
  if (text.length > mostChars) {
    throw new ExhibitError('usage', `The ${what} is ${text.length} characters long; ${mostChars} is the most`);
  }
  const control = /[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/u.exec(text)?.[0];
  if (control === undefined && text.trim() !== '') return text;
  if (control === undefined) throw new ExhibitError('usage', `The ${what} is nothing but spaces`);
  const code = control.codePointAt(0)?.toString(16).toUpperCase().padStart(4, '0');
  throw new ExhibitError(
    'usage',
    `The ${what} holds the control character U+${code}; write it on one line, as plain text`,
  );
}
