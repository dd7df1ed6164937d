import type { Command } from 'commander';
import { examples, GROUPS } from '../command.ts';
import type { Session } from '../session.ts';

/** `exhibit controller --config FILE`: the central controller, in the foreground until SIGTERM. */
export function registerController(program: Command, session: Session): void {
  const command = program
    .command('controller')
    .description('run the central controller in the foreground until SIGTERM')
    .helpGroup(GROUPS.agent)
    .requiredOption('--config <file>', "the controller's YAML configuration")
    .action(async ({ config }: { config: string }) => {
      const { runController } = await import('../../controller/main.ts');
      session.signal.throwIfAborted();
      await runController(config, session);
    });
  examples(command, [['exhibit controller --config /etc/exhibit/controller.yaml', 'what the Deployment runs']]);
}
