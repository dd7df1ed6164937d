import { type FolderTrust, trustFolder } from '../host/trusted-folder.ts';
import type { ExitStatus } from '../trigger/exit.ts';
import { type Check, count, line } from './check.ts';
import type { Patient } from './patient.ts';

/** The triggers that are configured, a line for each: whether they can be reached, and whether they do what they should. */

export async function examineRequestFolder({ config }: Patient): Promise<Check[]> {
  const { requestFolder } = config;
  if (requestFolder === undefined) return [];
  const { path, owners } = requestFolder;
  return [checkRequestFolder(path, await trustFolder(path, owners))];
}

export function checkRequestFolder(path: string, trust: FolderTrust): Check {
  const say = line('agent', 'request-folder');
  switch (trust.kind) {
    case 'trusted':
      return say.ok(`${path} can be written by its owners alone`, 'a request that is renamed into it starts a capture');
    case 'missing':
      return say.failure(`${path} is not there`, 'no request can be put there', `mkdir -m 0700 ${path}`);
    case 'distrusted':
      return say.failure(trust.why, 'no request of this folder is taken', trust.mend);
    default:
      return trust satisfies never;
  }
}

type Status = ReturnType<NonNullable<Patient['schedules']>>[number];

export async function examineSchedules({ config, schedules }: Patient): Promise<Check[]> {
  if (config.schedules.length === 0) return [];
  const untagged = config.schedules.filter(({ keepDays, sinks: names }) => {
    const theirs = config.sinks.filter(({ name }) => (names ?? config.defaultSinks)?.includes(name) ?? true);
    return keepDays !== undefined && theirs.some(({ sink }) => sink.url.startsWith('s3:') && !sink.tags);
  });
  return [
    checkSchedules(
      config.schedules.length,
      schedules?.(),
      untagged.map(({ name }) => name),
    ),
  ];
}

export async function examineExits({ config, exits }: Patient): Promise<Check[]> {
  if (config.exits.rules.length === 0) return [];
  return [checkExits(config.exits.rules.length, config.runtime.kind, exits?.())];
}

/** `status` is undefined where there is no agent to ask. */
export function checkExits(rules: number, runtime: string, status: ExitStatus | undefined): Check {
  const say = line('agent', 'exits');
  const configured = count(rules, 'rule');
  if (runtime === 'host') {
    return say.warning(
      `${configured}, and runtime.kind is host`,
      'there are no containers that could end',
      'set runtime.kind, or leave out exits',
    );
  }
  if (status === undefined) return say.ok(configured, 'containers that end and fit one are captured');
  const { matched, captured, known, dropped, failed } = status.counts;
  const found = `${configured}; ${matched} ended, ${captured} captured, ${known} known before, ${dropped} dropped, ${failed} failed`;
  const doubts: (readonly [meaning: string, mend: string])[] = [
    ...(status.trouble === undefined
      ? []
      : [[`the runtime's events are not followed: ${status.trouble}`, 'start the runtime'] as const]),
    ...(dropped === 0
      ? []
      : [[`${dropped} ended while too many waited`, 'narrow the rules, or raise exits.bound'] as const]),
    ...(failed === 0 ? [] : [[`${failed} could not be captured`, 'see the log of the agent, and its policy'] as const]),
  ];
  if (doubts.length === 0) return say.ok(found, 'containers that end and fit one are captured');
  return say.warning(found, doubts.map(([meaning]) => meaning).join('; '), doubts.map(([, mend]) => mend).join('; '));
}

/** `status` is undefined where there is no agent to ask; `untagged`: those whose keepDays no bucket gets to know. */
export function checkSchedules(
  configured: number,
  status: readonly Status[] | undefined,
  untagged: readonly string[],
): Check {
  const say = line('agent', 'schedules');
  const found = status === undefined ? count(configured, 'schedule') : status.map(describe).join('; ');
  const troubles = (status ?? []).filter(({ trouble }) => trouble !== undefined);
  const doubts: (readonly [meaning: string, mend: string])[] = troubles.map(({ name, trouble }) => [
    `${name}: ${trouble}`,
    'see the log of the agent, its selector and scheduleBudget',
  ]);
  if (untagged.length > 0)
    doubts.push([`keepDays of ${untagged.join(', ')} reaches no bucket`, 'set tags: true on its S3 sinks']);
  if (doubts.length === 0) return say.ok(found, 'each takes its captures within scheduleBudget');
  const mends = new Set(doubts.map(([, mend]) => mend));
  return say.warning(found, doubts.map(([meaning]) => meaning).join('; '), [...mends].join('; '));
}

function describe({ name, nextMs, counts, isRunning }: Status): string {
  const next = nextMs === undefined ? 'never due' : `next at ${new Date(nextMs).toISOString()}`;
  const left = counts.missed + counts.overlapped + counts.overBudget;
  const lost = left === 0 ? '' : `, ${left} left out`;
  return `${name} ${isRunning ? 'runs' : next} (${count(counts.captures, 'capture')}${lost})`;
}
