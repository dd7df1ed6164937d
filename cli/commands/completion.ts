import { Argument, type Command } from 'commander';
import { ARTIFACTS } from '../../evidence/layout.ts';
import { examples } from '../command.ts';
import type { Session } from '../session.ts';

/** Shells that the library writes a script for. */
const SHELLS = ['bash', 'zsh', 'fish', 'powershell'];

/** The library wants a name for a command of its own; nobody types it, ours is `completion`. */
const UNUSED = 'completion-script';

/**
 * `exhibit completion SHELL` prints what a shell reads at its start; `exhibit complete -- WORDS` is what that then asks, at each
 * press of the key. Commands and options come from commander, names of contexts from their file: nobody is asked over a network.
 *
 * @param declare makes the same program once more, without these two
 */
export function registerCompletion(program: Command, session: Session, declare: () => Command): void {
  const completion = program
    .command('completion')
    .description('print the script by which a shell completes commands, options and names of contexts')
    .helpGroup('Help:')
    .addArgument(new Argument('<shell>', 'which shell').choices(SHELLS))
    .action(async (shell: string) => (await completionOf(declare, session)).setup('exhibit', 'exhibit', shell));
  examples(completion, [['source <(exhibit completion bash)', 'for this shell; in ~/.bashrc for every one']]);
  program
    .command('complete', { hidden: true })
    .argument('[words...]')
    .allowUnknownOption()
    .action(async (words: string[]) => (await completionOf(declare, session)).parse(words));
}

async function completionOf(declare: () => Command, session: Session) {
  const { default: tab } = await import('@bomb.sh/tab/commander');
  const { readContexts } = await import('../contexts.ts');
  // A broken file of contexts is for the command that needs it.
  const { contexts } = await readContexts(session.env).catch(() => ({ contexts: [] }));
  const root = tab(declare(), { completionCommandName: UNUSED });
  const offer = (names: readonly string[]) => (complete: (name: string, description: string) => void) => {
    for (const name of names) complete(name, '');
  };
  const names = contexts.map(({ name }) => name);
  root.option('context', 'ask the controller of this context', offer(names));
  for (const command of ['use', 'remove', 'set'])
    root.commands.get(`context ${command}`)?.argument('name', offer(names));
  root.commands.get('capture')?.option('artifacts', 'what to take, with commas', offer(ARTIFACTS));
  return root;
}
