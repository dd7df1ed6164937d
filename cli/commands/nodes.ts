import type { Command } from 'commander';
import { answer, examples, GROUPS, optionsOf, withController } from '../command.ts';
import { everyPage } from '../controller/pages.ts';
import { nodeView } from '../controller/view.ts';
import { formatTable } from '../print.ts';
import type { Session } from '../session.ts';

/** `exhibit nodes`: which agents the controller knows, and whether they are there. */
export function registerNodes(program: Command, session: Session): void {
  const command = program
    .command('nodes')
    .description('list the nodes whose agents the controller knows')
    .helpGroup(GROUPS.controller)
    .option('--cluster <name>', 'only of this cluster')
    .option('--connected', 'only those whose agent is connected')
    .action(async () => {
      const options = optionsOf<{ cluster?: string; connected?: boolean }>(command);
      const nodes = await withController(session, options, async (client) => {
        const filter = { cluster: options.cluster ?? '', connectedOnly: options.connected ?? false };
        return await everyPage(async (pageToken) => {
          const page = await client.call('ListNodes', { ...filter, pageSize: 1000, pageToken }, session.signal);
          return { rows: page.nodes.map(nodeView), next: page.nextPageToken };
        });
      });
      await answer(session, options, {
        document: { nodes },
        words() {
          if (nodes.length === 0) return 'The controller knows no such node.\n';
          const rows = nodes.map((one) => [
            `${one.cluster}/${one.node}`,
            one.connected ? 'connected' : `gone since ${one.lastSeenAt ?? '-'}`,
            `${one.runtime.name} ${one.runtime.version}`,
            one.agentVersion,
            String(one.running),
            String(one.waiting),
            one.pod ?? '',
          ]);
          return formatTable(['NODE', 'AGENT', 'RUNTIME', 'VERSION', 'RUNNING', 'WAITING', 'POD'], rows);
        },
      });
    });
  examples(command, [
    ['exhibit nodes', 'all of them'],
    ["exhibit nodes --json | jq -r '.nodes[] | select(.connected | not) | .node'", 'whose agent is away'],
  ]);
}
