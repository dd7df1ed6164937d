import type { Command } from 'commander';
import { isContainerName, parseSelector, selectorText } from '../../agent/runtime/select.ts';
import { ExhibitError } from '../../evidence/error.ts';
import type { Container__Output } from '../../proto/gen/exhibit/v1/Container.ts';
import { answer, ask, type CommonOptions, examples, GROUPS, goesWithController, optionsOf } from '../command.ts';
import { describeUnreached } from '../controller/capture.ts';
import type { ControllerClient } from '../controller/client.ts';
import { escapeText, formatTable } from '../print.ts';
import { parseCount, parseNames } from '../request.ts';
import type { Session } from '../session.ts';

interface Options extends CommonOptions {
  readonly cluster?: readonly string[];
  readonly node?: string;
  readonly namespace?: string;
  readonly selector?: Readonly<Record<string, string>>;
  readonly limit?: number;
}

/** `exhibit containers`: what runs, as names that `capture` takes. */
export function registerContainers(program: Command, session: Session): void {
  const command = program
    .command('containers')
    .description('list what runs on this node or, through a controller, on all, by the names that `capture` takes')
    .helpGroup(GROUPS.node)
    .option('--cluster <names>', 'controller: only of these clusters, with commas', parseNames)
    .option('--node <name>', 'controller: only of this node')
    .option('-n, --namespace <name>', 'controller: only of this namespace')
    .option('-l, --selector <labels>', 'controller: only with these labels, LABEL=VALUE with commas', parseLabels)
    .option('--limit <number>', 'controller: how many at most (default: 1000)', parseCount)
    .action(async () => {
      const options = optionsOf<Options>(command);
      await ask(session, options, {
        async agent(client) {
          refuseFilters(options);
          const response = await client.listContainers(session.signal);
          const containers = response.containers.map(containerView);
          const runtime = { name: response.runtimeName, version: response.runtimeVersion };
          await answer(session, options, {
            document: { runtime, containers },
            words: () => agentTable(runtime.name, containers),
          });
        },
        controller: (client) => overNodes(session, options, client),
      });
    });
  examples(command, [
    ['exhibit containers', 'everything on this node'],
    [`exhibit containers --json | jq -r '.containers[] | select(.state == "running") | .id'`, 'ids for a script'],
  ]);
}

type Container = ReturnType<typeof containerView>;

function containerView({ id, name, namespace, pod, image, state, createdAt, labels }: Container__Output) {
  return { id, name, namespace: namespace || null, pod: pod || null, image, state, createdAt, labels };
}

function agentTable(runtime: string, containers: readonly Container[]): string {
  if (containers.length === 0) return `${escapeText(runtime)} runs no containers on this node.\n`;
  const composed = containers.some(({ labels }) => composeName(labels) !== '');
  const rows = containers.map((one) => [
    targetText(one),
    one.state,
    one.id.slice(0, SHORT_ID_LENGTH),
    one.image,
    ...(composed ? [composeName(one.labels)] : []),
  ]);
  return formatTable(['TARGET', 'STATE', 'ID', 'IMAGE', ...(composed ? ['COMPOSE'] : [])], rows);
}

async function overNodes(session: Session, options: Options, client: ControllerClient): Promise<void> {
  const request = {
    clusters: [...(options.cluster ?? [])],
    node: options.node ?? '',
    namespace: options.namespace ?? '',
    labels: { ...options.selector },
    limit: options.limit ?? 0,
  };
  const { containers: placed, unreached, cut } = await client.call('ListContainers', request, session.signal);
  const containers = placed.flatMap(({ cluster, node, container }) =>
    container === null ? [] : [{ cluster, node, ...containerView(container) }],
  );
  await answer(session, options, {
    document: { containers, unreached, cut },
    words() {
      const rows = containers.map((one) => [
        targetText(one),
        one.state,
        `${one.cluster}/${one.node}`,
        one.id.slice(0, SHORT_ID_LENGTH),
        one.image,
      ]);
      const table =
        rows.length === 0 ? 'No such container.\n' : formatTable(['TARGET', 'STATE', 'NODE', 'ID', 'IMAGE'], rows);
      const more = cut ? 'There are more: narrow it, or give --limit.\n' : '';
      return `${table}${more}${describeUnreached(unreached)}`;
    },
  });
}

function parseLabels(text: string): Record<string, string> {
  const parsed = parseSelector(text);
  if (parsed.kind === 'labels' && parsed.container === undefined) return Object.fromEntries(parsed.labels);
  throw new ExhibitError(
    'usage',
    `${JSON.stringify(text)} is no label: say LABEL=VALUE, several with commas between them.`,
  );
}

function refuseFilters({ cluster, node, namespace, selector, limit }: Options): void {
  const given = {
    '--cluster': cluster,
    '--node': node,
    '--namespace': namespace,
    '--selector': selector,
    '--limit': limit,
  };
  const [name] = Object.entries(given).find(([, value]) => value !== undefined) ?? [];
  if (name !== undefined) throw goesWithController(name);
}

/** What `capture` takes; outside Kubernetes the name that people gave, or the id of what has none. */
function targetText(one: { id: string; name: string; namespace: string | null; pod: string | null }): string {
  if (one.pod !== null) return `${one.namespace ?? ''}/${one.pod}/${one.name}`;
  const named = one.name !== one.id && isContainerName(one.name);
  return selectorText(named ? { kind: 'name', name: one.name } : { kind: 'container', id: one.id });
}

/** `project/service` of Docker Compose; its labels are selectors as well. Empty for a container of another kind. */
function composeName(labels: Readonly<Record<string, string>>): string {
  const project = labels['com.docker.compose.project'] ?? '';
  const service = labels['com.docker.compose.service'] ?? '';
  return service === '' ? project : `${project}/${service}`;
}

/** As Docker and crictl show ids: enough to be the only one on a node. */
const SHORT_ID_LENGTH = 13;
