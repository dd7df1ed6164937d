import type { Command } from 'commander';
import { isContainerName, selectorText } from '../../agent/runtime/select.ts';
import { answer, examples, GROUPS, optionsOf, withAgent } from '../command.ts';
import { escapeText, formatTable } from '../print.ts';
import type { Session } from '../session.ts';

/** `exhibit containers`: what this node runs, as names that `capture` takes. */
export function registerContainers(program: Command, session: Session): void {
  const command = program
    .command('containers')
    .description('list what runs on this node, by the names that `capture` takes')
    .helpGroup(GROUPS.node)
    .action(async () => {
      const options = optionsOf<object>(command);
      const response = await withAgent(session, options, (client) => client.listContainers(session.signal));
      const containers = response.containers.map(({ id, name, namespace, pod, image, state, createdAt, labels }) => {
        return { id, name, namespace: namespace || null, pod: pod || null, image, state, createdAt, labels };
      });
      const runtime = { name: response.runtimeName, version: response.runtimeVersion };
      await answer(session, options, {
        document: { runtime, containers },
        words() {
          if (containers.length === 0) return `${escapeText(runtime.name)} runs no containers on this node.\n`;
          const composed = containers.some(({ labels }) => composeName(labels) !== '');
          const rows = containers.map((one) => [
            targetText(one),
            one.state,
            one.id.slice(0, SHORT_ID_LENGTH),
            one.image,
            ...(composed ? [composeName(one.labels)] : []),
          ]);
          return formatTable(['TARGET', 'STATE', 'ID', 'IMAGE', ...(composed ? ['COMPOSE'] : [])], rows);
        },
      });
    });
  examples(command, [
    ['exhibit containers', 'everything on this node'],
    [`exhibit containers --json | jq -r '.containers[] | select(.state == "running") | .id'`, 'ids for a script'],
  ]);
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
