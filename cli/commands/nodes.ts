import type { Command } from 'commander';
import { apartWords, skewOf } from '../../proto/compatibility.ts';
import { answer, examples, GROUPS, optionsOf, withController } from '../command.ts';
import { everyPage } from '../controller/pages.ts';
import { nodeView } from '../controller/view.ts';
import { formatCount, formatTable } from '../print.ts';
import type { Session } from '../session.ts';
import { packageVersion } from '../version.ts';

/** A fleet has two or three versions at a time; one that has more has other troubles. */
const MAX_SENTENCES = 10;

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
      // Empty: a controller before 0.2 does not say.
      let controllerVersion = '';
      const nodes = await withController(session, options, async (client) => {
        const filter = { cluster: options.cluster ?? '', connectedOnly: options.connected ?? false };
        return await everyPage(async (pageToken) => {
          const page = await client.call('ListNodes', { ...filter, pageSize: 1000, pageToken }, session.signal);
          controllerVersion = page.controllerVersion;
          const skew = (agentVersion: string) => skewOf(agentVersion, page.controllerVersion);
          const rows = page.nodes.map((one) => ({ ...nodeView(one), skew: skew(one.agentVersion) }));
          return { rows, next: page.nextPageToken };
        });
      });
      await answer(session, options, {
        document: { nodes, controllerVersion: controllerVersion || null },
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
          const table = formatTable(['NODE', 'AGENT', 'RUNTIME', 'VERSION', 'RUNNING', 'WAITING', 'POD'], rows);
          return `${table}${skewWords(nodes, controllerVersion)}`;
        },
      });
    });
  examples(command, [
    ['exhibit nodes', 'all of them'],
    ["exhibit nodes --json | jq -r '.nodes[] | select(.connected | not) | .node'", 'whose agent is away'],
  ]);
}

/** One sentence for each version of agents that is too far from the controller's, and one for this program's own. */
function skewWords(nodes: readonly { readonly agentVersion: string }[], controllerVersion: string): string {
  const controller = { name: 'controller', version: controllerVersion };
  const counts = new Map<string, number>();
  for (const { agentVersion } of nodes) counts.set(agentVersion, (counts.get(agentVersion) ?? 0) + 1);
  const agents = [...counts].flatMap(([version, count]) => {
    const apart = apartWords({ name: 'agent', version }, controller);
    return apart === undefined ? [] : [`${formatCount(count, 'node')}: ${apart}.`];
  });
  const own = apartWords({ name: 'program', version: packageVersion() }, controller);
  const all = own === undefined ? agents : [...agents, `Here: ${own}.`];
  return all.length === 0 ? '' : `\n${all.slice(0, MAX_SENTENCES).join('\n')}\nSee docs/compatibility.md.\n`;
}
