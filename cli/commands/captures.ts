import { type Command, InvalidArgumentError } from 'commander';
import { answer, ask, type CommonOptions, examples, GROUPS, goesWithController, optionsOf } from '../command.ts';
import type { ControllerClient } from '../controller/client.ts';
import { everyPage } from '../controller/pages.ts';
import { controlledView } from '../controller/view.ts';
import { formatBytes, formatTable, formatTime } from '../print.ts';
import { parseNames } from '../request.ts';
import type { Session } from '../session.ts';
import { captureView, stateWords } from '../view.ts';

/** More than the agent keeps. */
const MAX_LIMIT = 10_000;

interface Options extends CommonOptions {
  readonly limit: number;
  readonly cluster?: string;
  readonly node?: string;
  readonly namespace?: string;
  readonly case?: string;
  readonly state?: readonly string[];
  readonly by?: string;
}

/** `exhibit captures`: what the agent captured, or what the controller knows of all nodes; newest first. */
export function registerCaptures(program: Command, session: Session): void {
  const command = program
    .command('captures')
    .description('list captures, newest first')
    .helpGroup(GROUPS.node)
    .option('--limit <number>', 'how many to list', parseLimit, 20)
    .option('--cluster <name>', 'controller: only of this cluster')
    .option('--node <name>', 'controller: only of this node')
    .option('-n, --namespace <name>', 'controller: only of this namespace')
    .option('--case <id>', 'controller: only of this case')
    .option('--state <names>', 'controller: only in these states, with commas', parseNames)
    .option('--by <name>', 'controller: only those that this operator asked for')
    .action(async () => {
      const options = optionsOf<Options>(command);
      await ask(session, options, {
        async agent(client) {
          refuseFilters(options);
          const { captures } = await client.listCaptures(options.limit, session.signal);
          await answer(session, options, {
            document: { captures: captures.map(captureView) },
            words: () => agentTable(captures),
          });
        },
        async controller(client) {
          const captures = await controlledCaptures(client, options, session.signal);
          await answer(session, options, { document: { captures }, words: () => controllerTable(captures) });
        },
      });
    });
  examples(command, [
    ['exhibit captures --limit 5', 'the last five'],
    [
      `exhibit captures --json | jq -r '.captures[] | select(.state == "running") | .captureId'`,
      'those that still run',
    ],
  ]);
}

const NONE = 'No captures yet: `exhibit capture TARGET` makes one.\n';

function agentTable(captures: readonly Parameters<typeof captureView>[0][]): string {
  if (captures.length === 0) return NONE;
  const rows = captures.map((capture) => [
    capture.captureId,
    formatTime(Number(capture.startedAtMs)),
    stateWords(capture),
    capture.target,
    formatBytes(Number(capture.storedBytes)),
    String(capture.gapCount),
    capture.caseId,
  ]);
  return formatTable(['CAPTURE', 'STARTED', 'STATE', 'TARGET', 'STORED', 'GAPS', 'CASE'], rows);
}

type Controlled = ReturnType<typeof controlledView>;

function controllerTable(captures: readonly Controlled[]): string {
  if (captures.length === 0) return 'The controller knows no such capture.\n';
  const rows = captures.map((one) => [
    one.captureId,
    one.createdAt ?? '',
    one.capture === null || one.capture.waitingSinks.length === 0 ? one.state : stateWords(one.capture),
    `${one.cluster}/${one.node}`,
    one.target,
    one.capture === null ? '' : formatBytes(one.capture.storedBytes),
    one.requestedBy,
    one.caseId ?? '',
  ]);
  return formatTable(['CAPTURE', 'ASKED', 'STATE', 'NODE', 'TARGET', 'STORED', 'BY', 'CASE'], rows);
}

async function controlledCaptures(
  client: ControllerClient,
  { limit, cluster = '', node = '', namespace = '', case: caseId = '', state = [], by = '' }: Options,
  signal: AbortSignal,
): Promise<Controlled[]> {
  const filter = { cluster, node, namespace, caseId, states: [...state], requestedBy: by };
  return await everyPage(async (pageToken) => {
    const request = { ...filter, pageSize: Math.min(limit, PAGE_SIZE), pageToken };
    const page = await client.call('ListCaptures', request, signal);
    return { rows: page.captures.map(controlledView), next: page.nextPageToken };
  }, limit);
}

const PAGE_SIZE = 1000;

/** An agent that listed all of its captures would seem to have answered. */
function refuseFilters({ cluster, node, namespace, case: caseId, state, by }: Options): void {
  const given = {
    '--cluster': cluster,
    '--node': node,
    '--namespace': namespace,
    '--case': caseId,
    '--state': state,
    '--by': by,
  };
  const [name] = Object.entries(given).find(([, value]) => value !== undefined) ?? [];
  if (name !== undefined) throw goesWithController(name);
}

function parseLimit(text: string): number {
  const limit = Number(text);
  if (!/^[0-9]+$/.test(text) || limit < 1 || limit > MAX_LIMIT) {
    throw new InvalidArgumentError(`Give a whole number from 1 to ${MAX_LIMIT}.`);
  }
  return limit;
}
