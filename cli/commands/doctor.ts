import type { Command } from 'commander';
import { ExhibitError, isExhibitError } from '../../evidence/error.ts';
import { answer, examples, GROUPS, optionsOf, withAgent } from '../command.ts';
import { escapeText, formatCount } from '../print.ts';
import type { Session } from '../session.ts';

/** A check as the agent tells it; words that this program does not know may come from another version. */
interface Finding {
  readonly group: string;
  readonly name: string;
  readonly status: string;
  readonly found: string;
  readonly meaning: string;
  readonly mend: string;
}

/** `exhibit doctor`: what would fail, before it fails. Exit 1 when a check fails; a warning is no failure. */
export function registerDoctor(program: Command, session: Session): void {
  const command = program
    .command('doctor')
    .description('say what would fail on this node before it fails, and how to mend it')
    .helpGroup(GROUPS.node)
    .option('--config <file>', "examine from here with the agent's configuration, without a running agent")
    .action(async () => {
      const options = optionsOf<{ config?: string }>(command);
      const checks = (await (options.config === undefined ? askAgent() : examineHere(options.config))).map(plain);
      const ok = !checks.some((check) => check.status !== 'ok' && check.status !== 'warning');
      if (!ok) session.exitCode = 1;
      await answer(session, options, { document: { ok, checks }, words: () => describeChecks(checks) });
    });

  async function askAgent(): Promise<readonly Finding[]> {
    try {
      const { checks } = await withAgent(session, optionsOf<object>(command), (client) =>
        client.doctor(session.signal),
      );
      return checks;
    } catch (error) {
      if (!isExhibitError(error, 'agent-unreachable')) throw error;
      const words = `${error.message} Without an agent, \`exhibit doctor --config FILE\` examines this node from here.`;
      throw new ExhibitError('agent-unreachable', words, { cause: error });
    }
  }

  async function examineHere(configFile: string): Promise<readonly Finding[]> {
    const { examineNode } = await import('../../agent/main.ts');
    return await examineNode(configFile, session.env, session.signal);
  }

  examples(command, [
    ['exhibit doctor', 'check this node, through its agent'],
    ['exhibit doctor --config /etc/exhibit/agent.yaml', 'check it before an agent runs'],
    ['exhibit doctor --json | jq -r \'.checks[] | select(.status == "failure") | .mend\'', 'what to mend'],
  ]);
}

/** The keys of the JSON document, and no others. */
const plain = ({ group, name, status, found, meaning, mend }: Finding): Finding => ({
  group,
  name,
  status,
  found,
  meaning,
  mend,
});

const MARKS: Readonly<Record<string, string>> = { ok: 'ok  ', warning: 'warn', failure: 'FAIL' };

/** Checks by their groups, a line each; what it means below, and how to mend it below those that are not well; then the sum. */
function describeChecks(checks: readonly Finding[]): string {
  const width = Math.max(0, ...checks.map((check) => check.name.length));
  const lines: string[] = [];
  for (const [index, check] of checks.entries()) {
    if (check.group !== checks[index - 1]?.group && check.group !== '')
      lines.push(...(index === 0 ? [] : ['']), escapeText(check.group));
    lines.push(...describeCheck(check, width));
  }
  const failures = checks.filter((check) => check.status !== 'ok' && check.status !== 'warning').length;
  const warnings = checks.filter((check) => check.status === 'warning').length;
  const sum = `${formatCount(checks.length, 'check')}, ${formatCount(warnings, 'warning')}, ${formatCount(failures, 'failure')}`;
  const verdict = failures > 0 ? 'a capture would fail' : 'a capture would work';
  return `${[...lines, '', `${sum}: ${verdict}`].join('\n')}\n`;
}

function describeCheck(check: Finding, width: number): string[] {
  const mark = MARKS[check.status] ?? 'FAIL';
  const line = `${mark}  ${escapeText(check.name).padEnd(width)}  ${escapeText(check.found)}`;
  const indent = ' '.repeat(mark.length + 2 + width + 2);
  const meaning = check.meaning === '' ? [] : [`${indent}${escapeText(check.meaning)}`];
  const mend = check.mend === '' ? [] : [`${indent}mend: ${escapeText(check.mend)}`];
  return [line, ...meaning, ...mend];
}
