import type { Command } from 'commander';
import { answer, ask, examples, GROUPS, optionsOf } from '../command.ts';
import { describeAsked } from '../controller/describe.ts';
import { controlledView } from '../controller/view.ts';
import { formatBytes, formatDuration, formatFields, formatTable, formatTime } from '../print.ts';
import type { Session } from '../session.ts';
import { type CaptureView, captureView, changesWords, stateWords } from '../view.ts';

/** `exhibit show ID`: one capture with its stages. */
export function registerShow(program: Command, session: Session): void {
  const command = program
    .command('show')
    .description('show one capture: its state, its stages, where its bundle is')
    .helpGroup(GROUPS.node)
    .argument('<id>', 'capture id, or the first characters that only one capture has')
    .action(async (id: string) => {
      const options = optionsOf<object>(command);
      await ask(session, options, {
        async agent(client) {
          const capture = captureView(await client.getCapture(id, session.signal));
          await answer(session, options, { document: capture, words: () => describeCapture(capture) });
        },
        async controller(client) {
          const one = controlledView(await client.call('GetCapture', { captureId: id }, session.signal));
          const told = one.capture === null ? '' : `\n${describeCapture(one.capture)}`;
          await answer(session, options, { document: one, words: () => `${describeAsked(one)}${told}` });
        },
      });
    });
  examples(command, [
    ['exhibit show 0198c0de', 'by the beginning of its id'],
    ['exhibit show 0198c0de --json | jq -r .bundleUrl', 'where the bundle is'],
  ]);
}

/** Everything about one capture, for people. */
export function describeCapture(capture: CaptureView): string {
  const fields = formatFields([
    ['capture', capture.captureId],
    ['state', stateWords(capture)],
    ['error', capture.error ?? undefined],
    ...waitingRows(capture),
    ['target', capture.target],
    ['scope', capture.scope === 'pod' ? 'pod' : undefined],
    ['case', capture.caseId ?? undefined],
    ['reason', capture.reason ?? undefined],
    ['started', timeOf(capture.startedAt)],
    ['finished', capture.state === 'running' ? 'not yet' : timeOf(capture.finishedAt)],
    ['stored', formatBytes(capture.storedBytes)],
    ['gaps', String(capture.gapCount)],
    ['paused', formatDuration(capture.pauseMs)],
    ['changes', capture.changes === null ? undefined : changesWords(capture.changes)],
    ['bundle', capture.bundleUrl ?? undefined],
  ]);
  if (capture.stages.length === 0) return fields;
  const rows = capture.stages.map((stage) => [
    stage.stage,
    stage.status,
    formatBytes(stage.storedBytes),
    formatDuration(stage.wallMs),
    stage.pauseMs > 0 ? formatDuration(stage.pauseMs) : '-',
    String(stage.gapCount),
    stage.reason ?? '',
  ]);
  return `${fields}\n${formatTable(['STAGE', 'STATUS', 'STORED', 'TOOK', 'PAUSED', 'GAPS', 'REASON'], rows)}`;
}

/** A line for each sink that it waits for: since when, and why as far as the agent knows. */
function waitingRows({ waitingSinks, waitingProblems, finishedAt }: CaptureView): [string, string][] {
  const since = timeOf(finishedAt);
  return waitingSinks.map((sink, index) => {
    const why = waitingProblems[index];
    return ['waits', `${sink}${since === undefined ? '' : ` since ${since}`}${why ? `: ${why}` : ''}`];
  });
}

function timeOf(time: string | null): string | undefined {
  return time === null ? undefined : formatTime(Date.parse(time));
}
