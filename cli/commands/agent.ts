import type { Command } from 'commander';
import { examples, GROUPS } from '../command.ts';
import type { Session } from '../session.ts';

/** `exhibit agent --config FILE`: the DaemonSet's program, in the foreground until SIGTERM. */
export function registerAgent(program: Command, session: Session): void {
  const command = program
    .command('agent')
    .description('run the agent in the foreground until SIGTERM')
    .helpGroup(GROUPS.agent)
    .requiredOption('--config <file>', "the agent's YAML configuration")
    .action(async ({ config }: { config: string }) => {
      // Before the agent's own code is read, which takes what may not be there.
      const { demandStartRoom } = await import('../../agent/host/start-room.ts');
      await demandStartRoom();
      const { enterNodeCgroups } = await import('../../agent/host/cgroup-namespace.ts');
      session.signal.throwIfAborted();
      enterNodeCgroups();
      const { runAgent } = await import('../../agent/main.ts');
      session.signal.throwIfAborted();
      await runAgent(config, session);
    });
  examples(command, [['exhibit agent --config /etc/exhibit/agent.yaml', 'what the DaemonSet runs']]);
}
