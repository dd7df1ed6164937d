import type { Command } from 'commander';
import type { Check__Output } from '../../proto/gen/exhibit/v1/Check.ts';
import { answer, examples, GROUPS, optionsOf, withAgent } from '../command.ts';
import { escapeText, formatCount } from '../print.ts';
import type { Session } from '../session.ts';

/** `exhibit doctor`: what would fail, before it fails. Exit 1 when a check fails; a warning is no failure. */
export function registerDoctor(program: Command, session: Session): void {
  const command = program
    .command('doctor')
    .description('say what would fail on this node before it fails, and how to mend it')
    .helpGroup(GROUPS.node)
    .action(async () => {
      const options = optionsOf<object>(command);
      const { checks } = await withAgent(session, options, (client) => client.doctor(session.signal));
      const ok = !checks.some((check) => check.status !== 'ok' && check.status !== 'warning');
      if (!ok) session.exitCode = 1;
      await answer(session, options, { document: { ok, checks }, words: () => describeChecks(checks) });
    });
  examples(command, [
    ['exhibit doctor', 'check this node'],
    ['exhibit doctor --json | jq -r \'.checks[] | select(.status == "failure") | .mend\'', 'what to mend'],
  ]);
}

const MARKS: Readonly<Record<string, string>> = { ok: 'ok  ', warning: 'warn', failure: 'FAIL' };

/** A line a check; what it means and how to mend it below those that are not well; the sum at the end. */
export function describeChecks(checks: readonly Check__Output[]): string {
  const width = Math.max(0, ...checks.map((check) => check.name.length));
  const lines = checks.flatMap((check) => {
    const mark = MARKS[check.status] ?? 'FAIL';
    const line = `${mark}  ${escapeText(check.name).padEnd(width)}  ${escapeText(check.found)}`;
    if (check.status === 'ok') return [line];
    const indent = ' '.repeat(mark.length + 2);
    return [
      line,
      ...(check.meaning === '' ? [] : [`${indent}${escapeText(check.meaning)}`]),
      ...(check.mend === '' ? [] : [`${indent}mend: ${escapeText(check.mend)}`]),
    ];
  });
  const failures = checks.filter((check) => check.status !== 'ok' && check.status !== 'warning').length;
  const warnings = checks.filter((check) => check.status === 'warning').length;
  const sum = `${formatCount(checks.length, 'check')}, ${formatCount(warnings, 'warning')}, ${formatCount(failures, 'failure')}`;
  return `${[...lines, '', sum].join('\n')}\n`;
}
