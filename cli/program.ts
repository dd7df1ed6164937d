import { Command } from 'commander';
import { examples } from './command.ts';
import { registerAgent } from './commands/agent.ts';
import { registerApprove } from './commands/approve.ts';
import { registerAudit } from './commands/audit.ts';
import { registerCancel } from './commands/cancel.ts';
import { registerCapture } from './commands/capture.ts';
import { registerCaptures } from './commands/captures.ts';
import { registerCases } from './commands/cases.ts';
import { registerCompletion } from './commands/completion.ts';
import { registerContainers } from './commands/containers.ts';
import { registerContext } from './commands/context.ts';
import { registerController } from './commands/controller.ts';
import { registerCore } from './commands/core.ts';
import { registerCustody } from './commands/custody.ts';
import { registerDiff } from './commands/diff.ts';
import { registerDoctor } from './commands/doctor.ts';
import { registerExtract } from './commands/extract.ts';
import { registerFindings } from './commands/findings.ts';
import { registerImage } from './commands/image.ts';
import { registerLogLevel } from './commands/log-level.ts';
import { registerMem } from './commands/mem.ts';
import { registerNodes } from './commands/nodes.ts';
import { registerPki } from './commands/pki.ts';
import { registerScan } from './commands/scan.ts';
import { registerShow } from './commands/show.ts';
import { registerStrings } from './commands/strings.ts';
import { registerTimeline } from './commands/timeline.ts';
import { registerVerify } from './commands/verify.ts';
import { registerWatch } from './commands/watch.ts';
import { DEFAULT_SOCKET } from './default-socket.ts';
import type { Session } from './session.ts';
import { packageVersion } from './version.ts';

/** The words commander would print are handed over instead: main.ts decides where they go and with what exit code. */
export interface Printed {
  text: string;
}

/** Every command, its options and help. Parsing throws commander's `CommanderError` instead of leaving the process. */
export function buildProgram(session: Session, printed: Printed): Command {
  const program = declare(session, printed);
  registerCompletion(program, session, () => declare(session, printed));
  return program;
}

function declare(session: Session, printed: Printed): Command {
  const print = (text: string) => {
    printed.text += text;
  };
  const program = new Command('exhibit')
    .description('Forensic capture for Kubernetes nodes: take what will be gone in a minute, and prove it later.')
    .version(packageVersion(), '--version', 'print the version')
    .helpOption('-h, --help', 'print help')
    .option('--socket <path>', `the agent's Unix socket (default: ${DEFAULT_SOCKET}, env: EXHIBIT_SOCKET)`)
    .option('--controller <address>', 'ask the controller on HOST:PORT instead (env: EXHIBIT_CONTROLLER)')
    .option('--context <name>', 'ask the controller of this context (env: EXHIBIT_CONTEXT)')
    .option('--ca <file>', "authority of the controller's certificate (env: EXHIBIT_CA)")
    .option('--cert <file>', 'your certificate for the controller (env: EXHIBIT_CERT)')
    .option('--key <file>', 'its key (env: EXHIBIT_KEY)')
    .option('--token-file <file>', 'OIDC token for the controller (env: EXHIBIT_TOKEN_FILE)')
    .option('--server-name <name>', "name in the controller's certificate, where it is not that of the address")
    .option('--json', 'one JSON document on stdout (capture: JSON lines), errors as JSON on stderr')
    .showSuggestionAfterError()
    .configureHelp({ showGlobalOptions: true, sortSubcommands: false })
    .configureOutput({
      writeOut: print,
      writeErr: print,
      outputError: () => undefined,
      getOutHelpWidth: () => HELP_WIDTH,
      getErrHelpWidth: () => HELP_WIDTH,
      getOutHasColors: () => false,
      getErrHasColors: () => false,
    })
    .exitOverride();
  registerCapture(program, session);
  registerContainers(program, session);
  registerCaptures(program, session);
  registerShow(program, session);
  registerCancel(program, session);
  registerDoctor(program, session);
  registerNodes(program, session);
  registerWatch(program, session);
  registerApprove(program, session);
  registerCases(program, session);
  registerAudit(program, session);
  registerContext(program, session);
  registerVerify(program, session);
  registerCustody(program, session);
  registerExtract(program, session);
  registerFindings(program, session);
  registerDiff(program, session);
  registerImage(program, session);
  registerCore(program, session);
  registerMem(program, session);
  registerStrings(program, session);
  registerScan(program, session);
  registerTimeline(program, session);
  registerAgent(program, session);
  registerLogLevel(program, session);
  registerPki(program, session);
  registerController(program, session);
  program.commandsGroup('Help:').helpCommand('help [command]', 'print help for a command');
  examples(program, [
    ['exhibit containers', 'what runs here'],
    ['exhibit capture prod/web-0 --case IR-2031', 'capture it'],
    ['exhibit --controller exhibit.example.org:8443 capture prod/web-0', 'wherever it runs'],
    ['exhibit verify /evidence/prod/node-1/0198c0de-3c4f-7a10-8000-5f2c0a7e9b11', 'complete and unaltered?'],
    ['exhibit extract BUNDLE processes --list', 'what is in it'],
    ['kubectl -n exhibit exec ds/exhibit-agent -- exhibit doctor', 'the same, from outside the cluster'],
  ]);
  program.addHelpText(
    'after',
    '\nExit codes: 0 done, 1 failed or not intact, 2 wrong usage, 3 intact as stored (encrypted, not opened), 4 `diff` found differences, 130 left with Ctrl-C.' +
      '\nEXHIBIT_DEBUG=1 shows the causes of an error.\n',
  );
  return program;
}

/** Help is the same on a terminal, in a pipe and in the manual. */
const HELP_WIDTH = 110;
