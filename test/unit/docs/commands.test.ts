import { readFileSync } from 'node:fs';
import path from 'node:path';
import { type Command, CommanderError } from 'commander';
import { describe, expect, test } from 'vitest';
import { buildProgram } from '../../../cli/program.ts';
import type { Session } from '../../../cli/session.ts';
import { allPages, type Block, ROOT } from './pages.ts';
import { shellCommands } from './shell-commands.ts';

/** Every command line of `exhibit` in the pages is one that the program takes: parsed by itself, and not run. */

const pages = await allPages();

/** Lines of a block that somebody types; of a block that shows a screen, those behind a prompt. */
function typed({ language, text }: Block): string {
  if (/^(?:sh|bash|shell)$/.test(language)) return text;
  if (!/^(?:|indented|console|text)$/.test(language)) return '';
  const lines = text.replaceAll(/\\\n\s*/g, ' ').split('\n');
  const PROMPT =
    /^(?:[$#] )?(?=(?:[A-Z_]+=\S+ )*(?:exhibit|kubectl exhibit|kubectl .*-- exhibit|source <\(exhibit|age .*\| exhibit)\s)/;
  return lines.flatMap((line) => (PROMPT.test(line) ? [line.replace(PROMPT, '')] : [])).join('\n');
}

interface Typed {
  readonly at: string;
  readonly words: readonly string[];
}

const lines = pages.flatMap(({ blocks }) =>
  blocks.flatMap((block) => shellCommands(typed(block)).map((words): Typed => ({ at: block.at, words }))),
);
/** `exhibit …`, also behind `kubectl exec … --`. */
const ofProgram = lines.flatMap(({ at, words }) => {
  const start = words[0] === 'exhibit' ? 0 : words.indexOf('--') + 1;
  return words[start] === 'exhibit' && (start === 0 || words[0] === 'kubectl')
    ? [{ at, words: words.slice(start + 1) }]
    : [];
});
const ofPlugin = lines.filter(({ words }) => words[0] === 'kubectl' && words[1] === 'exhibit');

const session = { env: {}, argv: [], exitCode: 0 } as unknown as Session;

/** Thrown where a command would begin its work. */
class Parsed extends Error {}

/** What the program says against it; undefined when it would begin. */
async function objection(words: readonly string[]): Promise<string | undefined> {
  const program = buildProgram(session, { text: '' });
  program.hook('preAction', () => {
    throw new Parsed();
  });
  try {
    await program.parseAsync([...words], { from: 'user' });
    return 'is no command that does something';
  } catch (error) {
    if (error instanceof Parsed) return undefined;
    if (error instanceof CommanderError && /^commander\.(?:version|help|helpDisplayed)$/.test(error.code)) {
      return error.exitCode === 0 ? undefined : error.message;
    }
    return error instanceof Error ? error.message : String(error);
  }
}

/** Names of commands, and of options with their dashes, that stand in `words` and are not of the program. */
function strange(words: readonly string[]): string[] {
  let command: Command = buildProgram(session, { text: '' });
  const options = new Set(['--help', '-h']);
  const learn = (one: Command) => {
    for (const { long, short } of one.options) for (const name of [long, short]) if (name) options.add(name);
  };
  learn(command);
  const unknown: string[] = [];
  for (const [index, word] of words.entries()) {
    const next = command.commands.find((one) => one.name() === word || one.aliases().includes(word));
    if (next !== undefined) {
      command = next;
      learn(next);
    } else if (index === 0 && /^[a-z]+$/.test(word) && word !== 'help') unknown.push(word);
  }
  const given = words.filter((word) => /^--?[a-z]/.test(word)).map((word) => word.split('=')[0] ?? '');
  return [...unknown, ...given.filter((name) => !options.has(name))];
}

describe('command lines in the pages', () => {
  test('are found', () => {
    expect(ofProgram.length).toBeGreaterThan(100);
    expect(ofPlugin.length).toBeGreaterThan(3);
  });

  test('are taken by the program', async () => {
    const faults: string[] = [];
    for (const { at, words } of ofProgram) {
      const why = await objection(words);
      if (why !== undefined) faults.push(`${at}: exhibit ${words.join(' ')}: ${why}`);
    }
    expect(faults).toEqual([]);
  });

  test('of kubectl exhibit have commands and options that the plugin has', () => {
    const script = readFileSync(path.join(ROOT, 'cli/kubectl-exhibit'), 'utf8');
    const help = /<<'HELP'\n(.*?)\nHELP/s.exec(script)?.[1] ?? '';
    const known = new Set(help.match(/(?<![\w-])--?[a-z][a-z-]*/g));
    const faults = ofPlugin.flatMap(({ at, words: [, , verb = '', ...rest] }) => {
      const options = rest.filter((word) => /^-/.test(word) && word !== '--').map((word) => word.split('=')[0] ?? '');
      const unknown = options.filter((name) => !known.has(name));
      if (!/^(?:capture|containers|captures|doctor|show|cancel|help)$/.test(verb)) unknown.unshift(verb);
      return unknown.map((name) => `${at}: kubectl exhibit ${verb} has no ${name}`);
    });
    expect(faults).toEqual([]);
  });

  test('are told of every command and option that there is', () => {
    const text = pages.filter(({ name }) => /^docs\/(?:cli|diff|timeline|image|custody)\.md$/.test(name));
    const told = new Set(
      text.flatMap(({ blocks, spans }) =>
        [...blocks, ...spans].flatMap((one) => one.text.match(/--[a-z][a-z-]*|(?<![\w-])[a-z][a-z-]+/g) ?? []),
      ),
    );
    const below = (command: Command): Command[] => [command, ...command.commands.flatMap(below)];
    const all = below(buildProgram(session, { text: '' })).slice(1);
    expect(all.length).toBeGreaterThan(30);
    const headings =
      readFileSync(path.join(ROOT, 'docs/cli.md'), 'utf8')
        .match(/^##.*$/gm)
        ?.join(' ') ?? '';
    const commands = all.map((one) => one.name()).filter((name) => !told.has(name) && !headings.includes(name));
    const options = all.flatMap((one) => one.options.map(({ long }) => ({ at: one.name(), long: long ?? '' })));
    const silent = options.filter(({ long }) => long !== '--help' && !told.has(long));
    expect([...commands, ...silent.map(({ at, long }) => `${at} ${long}`)]).toEqual([]);
  });

  test('within text have names of commands and options that there are', () => {
    const within = pages.flatMap(({ spans }) => spans.filter(({ text }) => /^exhibit [a-z-]/.test(text)));
    expect(within.length).toBeGreaterThan(100);
    const faults = within.flatMap(({ at, text }) =>
      strange(text.split(/\s+/).slice(1)).map((name) => `${at}: ${text}: ${name}`),
    );
    expect(faults).toEqual([]);
  });

  test('within text of the pages for people in a hurry are whole', async () => {
    const GUIDES = /^docs\/(?:runbook|install-eks)\.md$/;
    const within = pages.filter(({ name }) => GUIDES.test(name)).flatMap(({ spans }) => spans);
    const faults: string[] = [];
    for (const { at, text } of within.filter(({ text }) => /^exhibit [a-z]+ (?!\.\.\.)/.test(text))) {
      for (const [, ...words] of shellCommands(text)) {
        const why = await objection(words);
        if (why !== undefined) faults.push(`${at}: ${text}: ${why}`);
      }
    }
    expect(faults).toEqual([]);
  });
});
