import { isExhibitError } from '../../evidence/error.ts';
import type { Api, CallContext } from '../api/api.ts';
import type { Alert } from './alert.ts';
import { fillCase, fillReason } from './template.ts';

/** The case that a rule names, opened when it is not there. A closed one takes no captures: evidence is worth more than its label. */
export async function caseFor(
  api: Pick<Api, 'GetCase' | 'OpenCase'>,
  template: string | undefined,
  alert: Alert,
  source: string,
  context: CallContext,
): Promise<{ readonly caseId: string; readonly note?: string }> {
  if (template === undefined) return { caseId: '' };
  const caseId = fillCase(template, alert, source);
  const state = (await stateOf(api, caseId, context)) ?? (await opened(api, caseId, alert, source, context));
  if (state === 'open') return { caseId };
  return { caseId: '', note: `the case ${caseId} is closed, so the capture belongs to none` };
}

async function stateOf(api: Pick<Api, 'GetCase'>, caseId: string, context: CallContext): Promise<string | undefined> {
  try {
    return (await api.GetCase({ caseId }, context)).state ?? '';
  } catch (error) {
    if (isExhibitError(error, 'case-not-found')) return undefined;
    throw error;
  }
}

/** Two alerts at once: one opens it, the other finds it there. */
async function opened(
  api: Pick<Api, 'GetCase' | 'OpenCase'>,
  caseId: string,
  alert: Alert,
  source: string,
  context: CallContext,
): Promise<string> {
  try {
    await api.OpenCase({ caseId, title: fillReason('{source}: {rule}', alert, source) }, context);
    return 'open';
  } catch (error) {
    const state = isExhibitError(error, 'usage') ? await stateOf(api, caseId, context) : undefined;
    if (state === undefined) throw error;
    return state;
  }
}
