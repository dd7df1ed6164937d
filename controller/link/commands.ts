import type { CaptureCommand } from '../../proto/gen/exhibit/controller/v1/CaptureCommand.ts';
import type { CaptureRow } from '../store/store.ts';

/** What a stream has already carried of one capture. */
export interface Carried {
  readonly commanded: boolean;
  readonly cancelled: boolean;
}

/**
 * What is to be done about one open capture on the stream of its node, in order.
 * `withdraw` and `expire`: nothing is sent, the store alone learns it. `first`: to be marked as sent, and then sent.
 */
export type Step = 'withdraw' | 'expire' | 'first' | 'again' | 'resume' | 'cancel';

/** Pure. `again` may begin the capture where the agent never heard of it, `resume` never does. */
export function stepsFor(row: CaptureRow, carried: Carried | undefined, nowMs: number): Step[] {
  if (row.state === 'queued') {
    if (row.cancelRequested) return ['withdraw'];
    return [nowMs >= row.expiresAtMs ? 'expire' : 'first'];
  }
  const steps: Step[] = [];
  if (carried?.commanded !== true) {
    const mayBegin = row.state === 'sent' && row.acceptedAtMs === 0 && row.command !== null && nowMs < row.expiresAtMs;
    // Cancelled before the agent said a word: whatever it did not begin, it shall not begin now.
    steps.push(mayBegin && !row.cancelRequested ? 'again' : 'resume');
  }
  const runs = row.state === 'sent' || row.state === 'running';
  if (runs && row.cancelRequested && carried?.cancelled !== true) steps.push('cancel');
  return steps;
}

export function commandOf(row: CaptureRow, resume: boolean): CaptureCommand {
  const { captureId, trigger, requestedBy: identity } = row;
  return {
    request: { ...row.command, captureId },
    requester: { trigger, identity, approvedBy: row.approvals.map(({ by }) => by) },
    resume,
  };
}
