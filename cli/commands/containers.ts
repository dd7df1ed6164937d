import type { Command } from 'commander';
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
          const rows = containers.map((one) => [
            one.pod === null ? one.name : `${one.namespace ?? ''}/${one.pod}/${one.name}`,
            one.state,
            one.id.slice(0, SHORT_ID_LENGTH),
            one.image,
          ]);
          return formatTable(['TARGET', 'STATE', 'ID', 'IMAGE'], rows);
        },
      });
    });
  examples(command, [
    ['exhibit containers', 'everything on this node'],
    [`exhibit containers --json | jq -r '.containers[] | select(.state == "running") | .id'`, 'ids for a script'],
  ]);
}

/** As Docker and crictl show ids: enough to be the only one on a node. */
const SHORT_ID_LENGTH = 13;
