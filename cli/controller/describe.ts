import { formatFields } from '../print.ts';
import { describeResult } from '../result.ts';
import { type ControlledView, isOpen } from './view.ts';

/** Where the agent told how it went, that; otherwise what the controller knows. */
export function describeControlled(one: ControlledView): string {
  if (one.capture !== null && !isOpen(one.state)) return describeResult(one.capture);
  const next =
    one.state === 'awaiting-approval' ? `somebody else has to say: exhibit approve ${one.captureId}` : undefined;
  return formatFields([
    ['capture', one.captureId],
    ['state', one.state],
    ['target', `${one.cluster}/${one.node} ${one.target}`],
    ['error', one.error ?? undefined],
    ['force', one.force === true ? FORCED : undefined],
    ['next', next],
  ]);
}

/** Who approves should know. */
const FORCED = 'in spite of too little memory or disk, where the node lets the controller do so';

/** Who asked for it, when, and what became of it at the controller. */
export function describeAsked(one: ControlledView): string {
  return formatFields([
    ['capture', one.captureId],
    ['state', one.state],
    ['target', one.target],
    ['node', `${one.cluster}/${one.node}`],
    ['error', one.error ?? undefined],
    ['asked', `${one.createdAt ?? '-'} by ${one.requestedBy} (${one.trigger})`],
    ...one.approvals.map(({ by, at }): [string, string] => ['approved', `${at ?? '-'} by ${by}`]),
    ['sent', one.sentAt ?? undefined],
    ['accepted', one.acceptedAt ?? undefined],
    ['ended', one.endedAt ?? undefined],
    ['expires', one.state === 'queued' || one.state === 'awaiting-approval' ? (one.expiresAt ?? undefined) : undefined],
    ['case', one.caseId ?? undefined],
    ['reason', one.reason ?? undefined],
    ['force', one.force === true ? FORCED : undefined],
    ['cancel', one.cancelRequested && isOpen(one.state) ? 'asked for' : undefined],
  ]);
}
