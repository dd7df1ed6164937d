import path from 'node:path';
import type { Command } from 'commander';
import { answer, examples, GROUPS, optionsOf, withController } from '../command.ts';
import type { CommonOptions } from '../connection.ts';
import type { Context } from '../contexts.ts';
import { contextsPath } from '../contexts-path.ts';
import { formatFields, formatTable } from '../print.ts';
import type { Session } from '../session.ts';

/** `exhibit context`: which controllers this person knows, and which is asked when none is named. */
export function registerContext(program: Command, session: Session): void {
  const context = program
    .command('context')
    .description('list and choose the controllers that you know')
    .helpGroup(GROUPS.controller);
  context.action(async () => {
    const { readContexts } = await contextsFile();
    const file = await readContexts(session.env);
    await answer(session, optionsOf<object>(context), {
      document: { file: contextsPath(session.env), ...file },
      words() {
        if (file.contexts.length === 0)
          return 'No contexts yet: `exhibit context set NAME --controller HOST:PORT` makes one.\n';
        const rows = file.contexts.map((one) => [
          one.name === file.currentContext ? '*' : ' ',
          one.name,
          one.controller,
          knownBy(one),
        ]);
        return formatTable(['', 'NAME', 'CONTROLLER', 'KNOWN BY'], rows);
      },
    });
  });
  registerSet(context, session);
  registerUse(context, session);
  registerRemove(context, session);
  registerWhoAmI(context, session);
  examples(context, [
    [
      'exhibit context set prod --controller exhibit.example.org:8443 --ca ca.pem --cert me.pem --key me.key',
      'keep one',
    ],
    ['exhibit context use prod', 'ask this one from now on'],
    ['exhibit context whoami', 'what it takes you for'],
  ]);
}

/** Loads YAML and the schema, which no other command waits for. */
const contextsFile = () => import('../contexts.ts');

const knownBy = (one: Context): string =>
  one.tokenFile !== undefined || one.tokenCommand !== undefined
    ? 'token'
    : one.certFile === undefined
      ? 'nothing'
      : 'certificate';

function registerSet(context: Command, session: Session): void {
  const set = context
    .command('set')
    .description('keep a controller under a name, with the files that prove who you are')
    .argument('<name>', 'its name')
    .option('--token-command <program>', 'a program that prints an OIDC token')
    .option('--token-arg <word>', 'an argument of it; once for each, --token-arg=--audience', collect)
    .action(async (name: string) => {
      const options = optionsOf<CommonOptions & { tokenCommand?: string; tokenArg?: string[] }>(set);
      const { readContexts, writeContexts } = await contextsFile();
      const file = await readContexts(session.env);
      const before = file.contexts.find((one) => one.name === name);
      const full = (one: string | undefined) => (one === undefined ? undefined : path.resolve(one));
      const given = {
        controller: options.controller,
        caFile: full(options.ca),
        certFile: full(options.cert),
        keyFile: full(options.key),
        tokenFile: full(options.tokenFile),
        tokenCommand:
          options.tokenCommand === undefined ? undefined : [options.tokenCommand, ...(options.tokenArg ?? [])],
        serverName: options.serverName,
      };
      const changed = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
      const kept = { controller: '', ...before, ...changed, name } as Context;
      const others = file.contexts.filter((one) => one.name !== name);
      await writeContexts(session.env, { currentContext: file.currentContext || name, contexts: [...others, kept] });
      await answer(session, options, {
        document: kept,
        words: () => `${before === undefined ? 'Kept' : 'Changed'} ${name}.\n`,
      });
    });
}

const collect = (word: string, before: readonly string[] = []): string[] => [...before, word];

function registerUse(context: Command, session: Session): void {
  const use = context
    .command('use')
    .description('ask this controller when none is named; `none`: the agent of this node')
    .argument('<name>', 'its name')
    .action(async (name: string) => {
      const { contextNamed, readContexts, writeContexts } = await contextsFile();
      const file = await readContexts(session.env);
      const currentContext = name === 'none' ? '' : contextNamed(file, name).name;
      await writeContexts(session.env, { ...file, currentContext });
      await answer(session, optionsOf<object>(use), {
        document: { currentContext },
        words: () =>
          currentContext === '' ? 'Commands ask the agent of this node.\n' : `Commands ask ${currentContext}.\n`,
      });
    });
}

function registerRemove(context: Command, session: Session): void {
  const remove = context
    .command('remove')
    .description('forget a controller; files of keys and certificates stay')
    .argument('<name>', 'its name')
    .action(async (name: string) => {
      const { contextNamed, readContexts, writeContexts } = await contextsFile();
      const file = await readContexts(session.env);
      contextNamed(file, name);
      const currentContext = file.currentContext === name ? '' : file.currentContext;
      const contexts = file.contexts.filter((one) => one.name !== name);
      await writeContexts(session.env, { currentContext, contexts });
      await answer(session, optionsOf<object>(remove), {
        document: { currentContext, contexts },
        words: () => `Forgot ${name}.\n`,
      });
    });
}

function registerWhoAmI(context: Command, session: Session): void {
  const whoami = context
    .command('whoami')
    .description('who the controller takes you for, and what you may do there')
    .action(async () => {
      const options = optionsOf<object>(whoami);
      const me = await withController(session, options, (client) => client.call('WhoAmI', {}, session.signal));
      await answer(session, options, {
        document: me,
        words() {
          const fields = formatFields([
            ['name', me.name],
            ['known by', me.by],
            ['controller', me.controllerVersion],
          ]);
          const rows = me.grants.map(({ role, clusters, namespaces }) => [
            role,
            clusters.join(' '),
            namespaces.join(' '),
          ]);
          return `${fields}\n${formatTable(['ROLE', 'CLUSTERS', 'NAMESPACES'], rows)}`;
        },
      });
    });
}
