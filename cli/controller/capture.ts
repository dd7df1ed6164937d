import { setTimeout as sleep } from 'node:timers/promises';
import type { Selector } from '../../agent/runtime/runtime.ts';
import { selectorToProto } from '../../agent/runtime/select.ts';
import { ExhibitError, isExhibitError } from '../../evidence/error.ts';
import type { CaptureUpdate__Output } from '../../proto/gen/exhibit/controller/v1/CaptureUpdate.ts';
import type { CreateCaptureRequest } from '../../proto/gen/exhibit/controller/v1/CreateCaptureRequest.ts';
import type { CreateCaptureResponse__Output } from '../../proto/gen/exhibit/controller/v1/CreateCaptureResponse.ts';
import { escapeText, formatCount, formatTable } from '../print.ts';
import type { Progress } from '../progress.ts';
import { type CaptureOptions, withContainer } from '../request.ts';
import { type EventView, eventView } from '../view.ts';
import type { ControllerClient } from './client.ts';
import { type ControlledView, controlledView, isOpen } from './view.ts';

/** A capture over a controller: one target or many, each followed to its end. */

export interface PlaceOptions {
  readonly cluster?: readonly string[];
  readonly node?: string;
  readonly namespace?: string;
  readonly maxTargets?: number;
  readonly dryRun?: boolean;
}

export function createRequest(
  selector: Selector,
  options: CaptureOptions & PlaceOptions & { readonly requestId: string },
): CreateCaptureRequest {
  return {
    requestId: options.requestId,
    selector: selectorToProto(withContainer(selector, options.container)),
    clusters: [...(options.cluster ?? [])],
    node: options.node ?? '',
    namespace: options.namespace ?? '',
    artifacts: [...(options.artifacts ?? [])],
    caseId: options.case ?? '',
    reason: options.reason ?? '',
    consistency: options.consistency ?? '',
    scope: options.scope ?? '',
    sinks: [...(options.sink ?? [])],
    exhibitNumber: options.exhibit ?? '',
    acquirer: options.acquirer ?? '',
    maxTargets: options.maxTargets ?? 0,
    dryRun: options.dryRun ?? false,
    ...(options.force === true ? { force: true } : {}),
  };
}

/** What was created, for people: one line a target, and who could not be asked. */
export function describeCreated(created: CreateCaptureResponse__Output, dryRun: boolean): string {
  const captures = created.captures.map(controlledView);
  const rows = captures.map((one) => [
    dryRun ? '-' : one.captureId,
    `${one.cluster}/${one.node}`,
    one.target,
    one.state,
  ]);
  const table = rows.length === 0 ? '' : formatTable(['CAPTURE', 'NODE', 'TARGET', 'STATE'], rows);
  return table + describeUnreached(created.unreached);
}

export function describeUnreached(unreached: CreateCaptureResponse__Output['unreached']): string {
  if (unreached.length === 0) return '';
  const lines = unreached.map(({ cluster, node, reason }) => `  ${escapeText(`${cluster}/${node}: ${reason}`)}\n`);
  return `${formatCount(unreached.length, 'node')} could not be asked:\n${lines.join('')}`;
}

/** A controller that is started again, or a load balancer that moves, is back within seconds. */
const COME_BACK_MS = [500, 1_000, 2_000, 4_000, 8_000, 15_000, 30_000];

/**
 * Follows every capture until it has ended, or with `until: 'approval'` until it waits for a second person, and answers how each
 * stands. A connection that breaks in between is taken up again: what the controller has stored is not lost.
 */
export async function followCaptures(
  client: ControllerClient,
  captures: readonly ControlledView[],
  progress: Progress,
  { signal, until }: { readonly signal: AbortSignal; readonly until: 'approval' | 'end' },
): Promise<ControlledView[]> {
  const several = captures.length > 1;
  return await Promise.all(
    captures.map(async (one) => {
      let last = one;
      for await (const update of watchThrough(client, one.captureId, signal)) {
        if (update.capture !== null) last = controlledView(update.capture);
        const event = update.event === null ? undefined : withSpeed(eventView(update.event), update);
        if (event !== undefined && event.event !== 'ended')
          await progress.show(several ? namedAfter(event, last) : event);
        if (!isOpen(last.state) || (until === 'approval' && last.state === 'awaiting-approval')) return last;
      }
      return last;
    }),
  );
}

/** The updates over connections that break. Fails as the last of them when none comes about for a minute. */
async function* watchThrough(
  client: ControllerClient,
  captureId: string,
  signal: AbortSignal,
): AsyncGenerator<CaptureUpdate__Output> {
  for (let failed = 0; ; failed += 1) {
    try {
      for await (const update of client.watch(captureId, signal)) {
        failed = 0;
        yield update;
      }
      return;
    } catch (error) {
      const waitMs = COME_BACK_MS[failed];
      if (!isExhibitError(error, 'controller-unreachable') || waitMs === undefined) throw error;
      await sleep(waitMs, undefined, { signal });
    }
  }
}

function withSpeed(event: EventView | undefined, update: CaptureUpdate__Output): EventView | undefined {
  if (event?.event !== 'stage-progress') return event;
  const known = (text: string) => Number(text) || null;
  return { ...event, bytesPerSecond: known(update.bytesPerSecond), remainingMs: known(update.remainingMs) };
}

/** Stages of several captures side by side. */
function namedAfter(event: EventView, { target, node }: ControlledView): EventView {
  return 'stage' in event ? { ...event, stage: `${node} ${target} ${event.stage}` } : event;
}

/** Fails unless every capture is complete, partial or waits for somebody. */
export function failUnlessGood(captures: readonly ControlledView[]): void {
  const bad = captures.filter(({ state }) => !['complete', 'partial', 'awaiting-approval'].includes(state));
  const [first] = bad;
  if (first === undefined) return;
  const which =
    bad.length === 1 ? 'The capture' : `${bad.length} of ${captures.length} captures did not succeed; the first`;
  throw new ExhibitError(
    first.state === 'cancelled' ? 'cancelled' : 'capture-failed',
    `${which} of ${first.target} ended ${first.state}: ${first.error ?? first.capture?.error ?? 'no reason was given'}`,
  );
}
