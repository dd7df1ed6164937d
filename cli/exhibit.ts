import { CommanderError } from 'commander';
import { ExhibitError } from '../evidence/error.ts';
import { FORMAT_VERSION } from '../evidence/layout.ts';
import { PROTOCOL } from '../proto/compatibility.ts';
import { describeCauses, describeFailure, failureOf } from './failure.ts';
import { escapeLines, toJson } from './print.ts';
import { buildProgram, type Printed } from './program.ts';
import { Interruption, openOutput, type Session } from './session.ts';

/** The `exhibit` command: opens a session, runs one command, turns what it throws into words and an exit code. */

const session = openSession();
const json = wantsJson(process.argv.slice(2));
const printed: Printed = { text: '' };
try {
  await buildProgram(session, printed).parseAsync();
} catch (error) {
  session.exitCode = await conclude(error);
}
session.releaseSignals();
process.exitCode = session.exitCode;
// Somebody who leaves does not wait for a server that hangs; everything was written.
if (session.signal.aborted) process.exit();

function openSession(): Session {
  const interrupted = new AbortController();
  const listeners = (['SIGINT', 'SIGTERM'] as const).map((name) => {
    const listener = () => {
      const interruption = new Interruption(name);
      if (interrupted.signal.aborted) process.exit(interruption.exitCode);
      interrupted.abort(interruption);
    };
    process.on(name, listener);
    return [name, listener] as const;
  });
  return {
    env: process.env,
    argv: process.argv.slice(2),
    stdout: openOutput(process.stdout),
    stderr: openOutput(process.stderr),
    signal: interrupted.signal,
    releaseSignals: () => listeners.forEach(([name, listener]) => void process.off(name, listener)),
    exitCode: 0,
  };
}

/** Asked of the raw arguments, because a failure to parse them must be told in JSON as well. */
function wantsJson(args: readonly string[]): boolean {
  const end = args.indexOf('--');
  return (end < 0 ? args : args.slice(0, end)).includes('--json');
}

async function conclude(error: unknown): Promise<number> {
  const wrongUsage = error instanceof CommanderError ? await concludeParsing(error) : error;
  if (wrongUsage === undefined) return 0;
  const failure = failureOf(wrongUsage);
  // A stream that is gone cannot be told that it is gone.
  await session.stderr.write(describeFailure(failure, { json })).catch(() => undefined);
  if (session.env.EXHIBIT_DEBUG === '1') await session.stderr.write(describeCauses(error)).catch(() => undefined);
  return failure.exitCode;
}

/** Help and version are answers; everything else that commander throws is wrong usage. */
async function concludeParsing(error: CommanderError): Promise<ExhibitError | undefined> {
  switch (error.code) {
    case 'commander.version':
      return await print(
        { version: printed.text.trimEnd(), protocol: PROTOCOL, formatVersion: FORMAT_VERSION },
        printed.text,
      );
    case 'commander.helpDisplayed':
      return await print({ help: printed.text.trimEnd() }, printed.text);
    case 'commander.help':
      if (error.exitCode === 0) return await print({ help: printed.text.trimEnd() }, printed.text);
      if (!json) await session.stderr.write(`${escapeLines(printed.text)}\n`);
      return new ExhibitError('usage', 'Name a command, for example `exhibit containers`.');
    default:
      return new ExhibitError('usage', usageSentence(error.message), { cause: error });
  }
}

async function print(document: object, words: string): Promise<undefined> {
  await session.stdout.write(json ? `${toJson(document)}\n` : `${words.trimEnd()}\n`);
}

/** commander's `error: unknown command 'x'\n(Did you mean y?)` as one sentence that says what to do. */
function usageSentence(message: string): string {
  const [what = '', suggestion] = message.replace(/^error: /, '').split('\n');
  const sentence = `${what.charAt(0).toUpperCase()}${what.slice(1)}`.replace(/\.$/, '');
  const mend = suggestion?.match(/^\(Did you mean (.*)\?\)$/)?.[1];
  return mend === undefined ? `${sentence}: see \`exhibit --help\`.` : `${sentence}: did you mean ${mend}?`;
}
