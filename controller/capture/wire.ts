import type { ControlledCapture } from '../../proto/gen/exhibit/controller/v1/ControlledCapture.ts';
import { type CaptureRow, type CaptureState, END_STATES } from '../store/store.ts';

export const hasEnded = (state: CaptureState): boolean => END_STATES.some((end) => end === state);

/** A row as the API's message. */
export function wireCapture(row: CaptureRow): ControlledCapture {
  const { command, told, waits: _, artifacts, approvals, ...rest } = row;
  return {
    ...rest,
    artifacts: [...artifacts],
    approvals: [...approvals],
    capture: told,
    force: command?.force ?? false,
  };
}
