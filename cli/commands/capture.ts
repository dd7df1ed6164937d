import { type Command, Option } from 'commander';
import { ExhibitError, isExhibitError } from '../../evidence/error.ts';
import { ARTIFACTS } from '../../evidence/layout.ts';
import type { AgentClient } from '../client.ts';
import { type CommonOptions, examples, GROUPS, optionsOf, withAgent } from '../command.ts';
import { escapeText, formatBytes, formatCount, formatDuration, formatFields } from '../print.ts';
import { describeStage, jsonProgress, type Progress, personProgress } from '../progress.ts';
import { type CaptureOptions, captureRequest, parseArtifacts, parseCaptureId, parseSinks } from '../request.ts';
import { Interruption, type Session } from '../session.ts';
import { type CaptureView, type EventView, eventView } from '../view.ts';

type Options = CaptureOptions & CommonOptions & { detach?: boolean };

/** A runtime that does not name a target in this time hangs, and so would we. */
const ACCEPT_TIMEOUT_MS = 60_000;

/** `exhibit capture TARGET`: the main job. */
export function registerCapture(program: Command, session: Session): void {
  const command = program
    .command('capture')
    .description('capture a container, a process or a unit of this node into a sealed bundle')
    .helpGroup(GROUPS.node)
    .argument(
      '<target>',
      'namespace/pod[/container], container id, name:NAME, label=value[,…], pid:N, cgroup:/path or unit:NAME',
    )
    .option('--case <id>', 'case number for the manifest')
    .option('--exhibit <number>', 'number of the exhibit in its case')
    .option('--acquirer <name>', 'who acquires the evidence')
    .option('--reason <text>', 'why, for the manifest')
    .option(
      '--artifacts <names>',
      `what to take, with commas: ${ARTIFACTS.join(',')} (default: as configured)`,
      parseArtifacts,
    )
    .option(
      '--sink <names>',
      "which of the agent's sinks to write to, with commas or several times (default: as configured)",
      parseSinks,
    )
    .option('--container <name>', "the pod's container, where it has several")
    .option(
      '--id <uuid>',
      'id of the capture; the same id never makes a second one, it joins the first',
      parseCaptureId,
    )
    .addOption(
      new Option(
        '--consistency <how>',
        'stop the target while memory is read, or let it run (default: as configured)',
      ).choices(['frozen', 'live']),
    )
    .addOption(
      new Option(
        '--scope <what>',
        'one container, or stop and read every container of its pod together (default: as configured)',
      ).choices(['container', 'pod']),
    )
    .addOption(new Option('--wait', 'show progress until the capture has ended (default)').conflicts('detach'))
    .addOption(
      new Option('--detach', 'print the id once the agent has accepted the capture, and leave').conflicts('wait'),
    )
    .action(async (target: string) => capture(session, target, optionsOf<Options>(command)));
  examples(command, [
    [
      'exhibit capture prod/web-0 --case IR-2031 --reason "crypto miner alert"',
      'everything of a pod with one container',
    ],
    ['exhibit capture prod/web-0/app --artifacts processes,network,memory', 'what is gone first, nothing else'],
    ['exhibit capture prod/web-0 --scope pod', 'the memory of all its containers, as of one moment'],
    ['exhibit capture app=web,tier=api --container app --detach', 'by label; leave once it runs'],
    [
      'exhibit capture pid:4711 --consistency live',
      'the container (or process tree) of a process, without stopping it',
    ],
  ]);
}

async function capture(session: Session, target: string, options: Options): Promise<void> {
  const { parseSelector } = await import('../../agent/runtime/select.ts');
  const { v7: uuidv7 } = await import('uuid');
  // Made here, so that even a caller who is interrupted before the first answer knows what to ask for.
  const captureId = options.id ?? uuidv7();
  const request = captureRequest(parseSelector(target), { ...options, captureId });
  try {
    const last = await withAgent(session, options, (client) => follow(session, options, client, request));
    if (last.event === 'accepted') await session.stdout.write(options.json === true ? '' : `${captureId}\n`);
    if (last.event === 'ended') await conclude(session, options, last.capture);
  } catch (error) {
    if (!(error instanceof Interruption)) throw error;
    throw new Interruption(error.signalName, describeDeparture(captureId, options));
  }
}

/** Shows events until the one that this caller waits for. */
async function follow(
  session: Session,
  options: Options,
  client: AgentClient,
  request: Parameters<AgentClient['capture']>[0],
): Promise<EventView> {
  const accepting = new AbortController();
  const timer = setTimeout(() => accepting.abort(notAccepted(request.captureId ?? '')), ACCEPT_TIMEOUT_MS);
  const progress = await chooseProgress(session, options);
  let accepted = false;
  try {
    for await (const message of client.capture(request, AbortSignal.any([session.signal, accepting.signal]))) {
      clearTimeout(timer);
      accepted = true;
      const event = eventView(message);
      if (event === undefined) continue;
      await progress.show(event);
      if (event.event === 'ended' || (event.event === 'accepted' && options.detach === true)) return event;
    }
  } catch (error) {
    throw accepted && isExhibitError(error, 'agent-unreachable') ? lost(request.captureId, error) : error;
  } finally {
    clearTimeout(timer);
    progress.stop();
  }
  throw lost(request.captureId);
}

/** An agent that died thaws the target when it starts again, and marks the capture as interrupted. */
function lost(captureId = '', cause?: unknown): ExhibitError {
  return new ExhibitError(
    'agent-unreachable',
    `The agent went away during the capture: once it runs again, \`exhibit show ${captureId}\` says how it went.`,
    { cause },
  );
}

function notAccepted(captureId: string): ExhibitError {
  return new ExhibitError(
    'agent-unreachable',
    `The agent did not accept the capture within ${formatDuration(ACCEPT_TIMEOUT_MS)}: see its log, and \`exhibit show ${captureId}\` whether it began after all.`,
  );
}

/** Detached, only JSON shows anything: a script that wants the id gets the id. */
async function chooseProgress(session: Session, options: Options): Promise<Progress> {
  if (options.json === true) return jsonProgress(session.stdout);
  if (options.detach === true) return { show: async () => undefined, stop: () => undefined };
  return await personProgress(session.stderr);
}

/** The result on stdout; fails unless the capture is complete or partial. */
async function conclude(session: Session, options: Options, ended: CaptureView): Promise<void> {
  if (options.json !== true) await session.stdout.write(describeResult(ended));
  const why = ended.error ?? 'it gave no reason';
  switch (ended.state) {
    case 'complete':
    case 'partial':
      return;
    case 'cancelled':
      throw new ExhibitError('cancelled', `The capture was cancelled; what it stored until then stays (${why}).`);
    default:
      throw new ExhibitError('capture-failed', `The capture ${ended.state || 'failed'}: ${why}`);
  }
}

/** What a person wants to know at the end: how it went, what is missing, where it is, how to check it. */
export function describeResult(ended: CaptureView): string {
  const missing = ended.stages.filter((stage) => stage.status !== 'captured');
  const gaps = ended.gapCount > 0 ? `${formatCount(ended.gapCount, 'gap')}, listed in manifest.json` : 'see below';
  const outcome = ended.state === 'partial' ? `partial: ${gaps}` : ended.state;
  const fields = formatFields([
    ['capture', ended.captureId],
    ['outcome', outcome],
    ['target', ended.target],
    ['stored', formatBytes(ended.storedBytes)],
    ['paused', formatDuration(ended.pauseMs)],
    ['bundle', ended.bundleUrl ?? undefined],
    ['verify', ended.bundleUrl === null ? undefined : `exhibit verify ${shellWord(ended.bundleUrl)}`],
  ]);
  if (missing.length === 0) return fields;
  return `${fields}\nNot everything was captured:\n${missing.map((stage) => `  ${describeStage(stage)}\n`).join('')}`;
}

/** For somebody who pressed Ctrl-C: nothing was stopped, and how to look again or to stop it. */
export function describeDeparture(captureId: string, options: Pick<Options, 'socket'>): string {
  const socket = `--socket ${shellWord(options.socket)}`;
  return (
    `The capture ${captureId} goes on without you: see it with \`exhibit show ${captureId} ${socket}\`, ` +
    `watch it again with the same command and --id ${captureId}, or end it with \`exhibit cancel ${captureId} ${socket}\`.`
  );
}

function shellWord(text: string): string {
  const shown = escapeText(text);
  return /^[\w@%+=:,./-]+$/.test(shown) ? shown : `'${shown.replaceAll("'", `'\\''`)}'`;
}
