import { type Command, Option } from 'commander';
import { ExhibitError, isExhibitError } from '../../evidence/error.ts';
import { ARTIFACTS } from '../../evidence/layout.ts';
import type { AgentClient } from '../client.ts';
import { ask, type CommonOptions, examples, GROUPS, goesWithController, optionsOf } from '../command.ts';
import {
  createRequest,
  describeCreated,
  failUnlessGood,
  followCaptures,
  type PlaceOptions,
} from '../controller/capture.ts';
import type { ControllerClient } from '../controller/client.ts';
import { describeControlled } from '../controller/describe.ts';
import { controlledView } from '../controller/view.ts';
import { formatDuration, toJson } from '../print.ts';
import { jsonProgress, type Progress, personProgress } from '../progress.ts';
import {
  type CaptureOptions,
  captureRequest,
  parseArtifacts,
  parseCaptureId,
  parseCount,
  parseNames,
  parseSinks,
} from '../request.ts';
import { describeResult, shellWord } from '../result.ts';
import { Interruption, type Session } from '../session.ts';
import { type CaptureView, type EventView, eventView } from '../view.ts';

type Options = CaptureOptions & PlaceOptions & CommonOptions & { detach?: boolean };

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
    .option('--force', 'begin in spite of too little memory or disk, where the node lets you (limits.override)')
    .addOption(new Option('--wait', 'show progress until the capture has ended (default)').conflicts('detach'))
    .addOption(
      new Option('--detach', 'print the id once the agent has accepted the capture, and leave').conflicts('wait'),
    )
    .option('--cluster <names>', 'controller: only in these clusters, with commas', parseNames)
    .option('--node <name>', 'controller: only on this node; needed for pid:, cgroup: and unit:')
    .option('-n, --namespace <name>', 'controller: only in this namespace, for labels')
    .option('--max-targets <number>', 'controller: begin nothing when more match (default: 50)', parseCount)
    .option('--dry-run', 'controller: say what would be captured, and begin nothing')
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
      'exhibit --controller exhibit.example.org:8443 capture app=web -n prod --dry-run',
      'every pod with this label, on all nodes: which would it be?',
    ],
    [
      'exhibit capture pid:4711 --consistency live',
      'the container (or process tree) of a process, without stopping it',
    ],
  ]);
}

async function capture(session: Session, target: string, options: Options): Promise<void> {
  const { parseSelector } = await import('../../agent/runtime/select.ts');
  const { v7: uuidv7 } = await import('uuid');
  const selector = parseSelector(target);
  // Made here, so that even a caller who is interrupted before the first answer knows what to ask for.
  const captureId = options.id ?? uuidv7();
  let departure = '';
  try {
    await ask(session, options, {
      async agent(client, socket) {
        refusePlaces(options);
        departure = describeDeparture(captureId, { socket });
        const request = captureRequest(selector, { ...options, captureId });
        const last = await follow(session, options, client, request).catch(async (error: unknown) => {
          const { placedError } = await import('../kubernetes/elsewhere.ts');
          throw await placedError(error, session, selector, { target, container: options.container });
        });
        if (last.event === 'accepted') await session.stdout.write(options.json === true ? '' : `${captureId}\n`);
        if (last.event === 'ended') await conclude(session, options, last.capture);
      },
      async controller(client) {
        departure = describeLeaving(captureId);
        await throughController(
          session,
          options,
          client,
          createRequest(selector, { ...options, requestId: captureId }),
        );
      },
    });
  } catch (error) {
    if (!(error instanceof Interruption)) throw error;
    throw new Interruption(error.signalName, departure || error.message);
  }
}

/** @throws ExhibitError `usage`: an agent knows one node, and would capture more narrowly than was meant */
function refusePlaces({ cluster, node, namespace, maxTargets, dryRun }: Options): void {
  const given = {
    '--cluster': cluster,
    '--node': node,
    '--namespace': namespace,
    '--max-targets': maxTargets,
    '--dry-run': dryRun,
  };
  const [name] = Object.entries(given).find(([, value]) => value !== undefined) ?? [];
  if (name !== undefined) throw goesWithController(name);
}

async function throughController(
  session: Session,
  options: Options,
  client: ControllerClient,
  request: ReturnType<typeof createRequest>,
): Promise<void> {
  const { json = false, dryRun = false, detach = false } = options;
  const created = await client.call('CreateCapture', request, session.signal);
  const captures = created.captures.map(controlledView);
  if (json)
    await session.stdout.write(`${toJson({ event: 'created', dryRun, captures, unreached: created.unreached })}\n`);
  else await (dryRun ? session.stdout : session.stderr).write(describeCreated(created, dryRun));
  if (dryRun) return;
  if (detach) {
    if (!json) await session.stdout.write(captures.map(({ captureId }) => `${captureId}\n`).join(''));
    return;
  }
  const progress = await chooseProgress(session, options);
  const ended = await followCaptures(client, captures, progress, { signal: session.signal, until: 'approval' }).finally(
    () => progress.stop(),
  );
  if (json) await session.stdout.write(ended.map((one) => `${toJson({ event: 'ended', capture: one })}\n`).join(''));
  else await session.stdout.write(ended.map(describeControlled).join('\n'));
  failUnlessGood(ended);
}

const describeLeaving = (requestId: string): string =>
  'What the controller has stored goes on without you: `exhibit captures` lists it, `exhibit watch ID` shows it, `exhibit cancel ID` ends it, ' +
  `and the same command with --id ${requestId} takes it up again.`;

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

/** An agent that died thaws the target when it starts again, and seals what there is of the capture as truncated. */
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

/** For somebody who pressed Ctrl-C: nothing was stopped, and how to look again or to stop it. */
function describeDeparture(captureId: string, options: { readonly socket: string }): string {
  const socket = `--socket ${shellWord(options.socket)}`;
  return (
    `The capture ${captureId} goes on without you: see it with \`exhibit show ${captureId} ${socket}\`, ` +
    `watch it again with the same command and --id ${captureId}, or end it with \`exhibit cancel ${captureId} ${socket}\`.`
  );
}
