import { escapeText, formatBytes, formatCount, formatDuration, formatFields } from './print.ts';
import { describeStage } from './progress.ts';
import { type CaptureView, changesWords, stateWords } from './view.ts';

/** What a person wants to know at the end: how it went, what is missing, where it is, how to check it. */
export function describeResult(ended: CaptureView): string {
  const missing = ended.stages.filter((stage) => stage.status !== 'captured');
  const gaps = ended.gapCount > 0 ? `${formatCount(ended.gapCount, 'gap')}, listed in manifest.json` : 'see below';
  const outcome = ended.state === 'partial' ? `${stateWords(ended)}: ${gaps}` : stateWords(ended);
  const fields = formatFields([
    ['capture', ended.captureId],
    ['outcome', outcome],
    ['target', ended.target],
    ['stored', formatBytes(ended.storedBytes)],
    ['paused', formatDuration(ended.pauseMs)],
    ['changes', ended.changes === null ? undefined : changesWords(ended.changes)],
    ['bundle', ended.bundleUrl ?? undefined],
    ['verify', ended.bundleUrl === null ? undefined : `exhibit verify ${shellWord(ended.bundleUrl)}`],
  ]);
  if (missing.length === 0) return fields;
  return `${fields}\nNot everything was captured:\n${missing.map((stage) => `  ${describeStage(stage)}\n`).join('')}`;
}

/** As a shell reads it back. */
export function shellWord(text: string): string {
  const shown = escapeText(text);
  return /^[\w@%+=:,./-]+$/.test(shown) ? shown : `'${shown.replaceAll("'", `'\\''`)}'`;
}
