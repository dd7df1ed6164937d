import { type Command, InvalidArgumentError } from 'commander';
import { answer, type CommonOptions, examples, GROUPS, optionsOf } from '../command.ts';
import type { Files } from '../pki/folder.ts';
import { escapeText, formatFields, formatTable } from '../print.ts';
import type { Session } from '../session.ts';

type Options = CommonOptions & { pki: string; out?: string; days?: number };
type InitOptions = CommonOptions & { out: string; trustDomain: string; san: string[] };

const DEFAULT_FOLDER = 'exhibit-pki';

/** `exhibit pki ...`: authorities and certificates to try the controller with. pkijs is loaded only when one of these runs. */
export function registerPki(program: Command, session: Session): void {
  const pki = program
    .command('pki')
    .description('make a CA for agents, one for operators and one for the controller, and certificates, for trials')
    .helpGroup(GROUPS.trial);
  registerInit(pki, session);
  registerIssue(pki, session);
  registerRevoke(pki, session);
  registerShow(pki, session);
  examples(pki, [
    ['exhibit pki init --out pki --san controller.security.example', "authorities, and the controller's certificate"],
    ['exhibit pki agent prod node-1 --pki pki', 'of an agent'],
    ['exhibit pki operator alice --pki pki', 'of a person'],
    ['exhibit pki revoke pki/operators/people/alice.pem --pki pki', 'not let in any more'],
  ]);
}

function registerInit(pki: Command, session: Session): void {
  const command = pki
    .command('init')
    .description("make the authorities and the controller's certificate; nothing is overwritten")
    .option('--out <folder>', 'where', DEFAULT_FOLDER)
    .option('--trust-domain <name>', 'of the SPIFFE IDs', 'exhibit')
    .option('--san <name...>', 'DNS names and addresses by which the controller is reached', [
      'localhost',
      '127.0.0.1',
      '::1',
    ])
    .action(async () => {
      const { initPki } = await import('../pki/folder.ts');
      const options = optionsOf<InitOptions>(command);
      const files = await initPki(options.out, { trustDomain: options.trustDomain, names: options.san });
      await tell(session, options, files);
    });
}

function registerIssue(pki: Command, session: Session): void {
  const agent = issuing(
    pki.command('agent <cluster> <node>').description('make a certificate for the agent of a node'),
  );
  agent.action(async (cluster: string, node: string) => {
    const { issueAgent } = await import('../pki/folder.ts');
    const options = optionsOf<Options>(agent);
    await tell(session, options, await issueAgent(options.pki, cluster, node, chosen(options)));
  });
  const operator = issuing(pki.command('operator <name>').description('make a certificate for a person or a program'));
  operator.action(async (name: string) => {
    const { issueOperator } = await import('../pki/folder.ts');
    const options = optionsOf<Options>(operator);
    await tell(session, options, await issueOperator(options.pki, name, chosen(options)));
  });
  const controller = issuing(pki.command('controller').description('make another certificate for the controller'));
  controller
    .requiredOption('--san <name...>', 'DNS names and addresses by which the controller is reached')
    .action(async () => {
      const { issueController } = await import('../pki/folder.ts');
      const options = optionsOf<Options & { san: string[] }>(controller);
      await tell(session, options, await issueController(options.pki, options.san, chosen(options)));
    });
}

function registerRevoke(pki: Command, session: Session): void {
  const command = inFolder(pki.command('revoke <file-or-serial>'))
    .description("put a certificate on its authority's revocation list")
    .action(async (fileOrSerial: string) => {
      const { revoke } = await import('../pki/folder.ts');
      const options = optionsOf<Options>(command);
      const { authority, serial, names } = await revoke(options.pki, fileOrSerial);
      const crlFile = `${options.pki}/${authority}/crl.pem`;
      await answer(session, options, {
        document: { serial, names, authority, crlFile },
        words: () => `revoked ${serial} (${escapeText(names)}): give ${escapeText(crlFile)} to the controller\n`,
      });
    });
  const crl = inFolder(pki.command('crl'))
    .description('write all revocation lists anew, before they end')
    .action(async () => {
      const { renewLists } = await import('../pki/folder.ts');
      const options = optionsOf<Options>(crl);
      const files = await renewLists(options.pki);
      await answer(session, options, { document: { files }, words: () => `${files.map(escapeText).join('\n')}\n` });
    });
}

function registerShow(pki: Command, session: Session): void {
  const command = inFolder(pki.command('show'))
    .description('list what was issued and revoked')
    .action(async () => {
      const { showPki } = await import('../pki/folder.ts');
      const options = optionsOf<Options>(command);
      const shown = await showPki(options.pki);
      const document = shown.map((one) => ({ ...one, list: { ...one.list, number: Number(one.list.number) } }));
      await answer(session, options, {
        document,
        words: () =>
          shown
            .map(({ authority, notAfter, list, issued }) => {
              const until = list.nextUpdate === undefined ? '-' : day(list.nextUpdate);
              const head = `${authority}: until ${day(notAfter)}, revocation list ${list.number} until ${until}\n`;
              const rows = issued.map((one) => [
                one.serial,
                one.names,
                day(one.notAfter),
                one.revokedAt === undefined ? '' : day(one.revokedAt),
              ]);
              return head + formatTable(['SERIAL', 'NAMES', 'UNTIL', 'REVOKED'], rows);
            })
            .join('\n'),
      });
    });
}

function inFolder(command: Command): Command {
  return command.option('--pki <folder>', 'made by `exhibit pki init`', DEFAULT_FOLDER);
}

function issuing(command: Command): Command {
  return inFolder(command)
    .option('--days <number>', 'how long it is valid; 30 unless told', days)
    .option('--out <path>', 'write PATH.pem and PATH.key instead of into the folder');
}

/** Longer than its authority it never is. */
const MAX_DAYS = 3_650;

function days(text: string): number {
  const value = Number(text);
  if (!(Number.isInteger(value) && value >= 1 && value <= MAX_DAYS))
    throw new InvalidArgumentError(`a whole number from 1 to ${MAX_DAYS} is expected`);
  return value;
}

function chosen({ days, out }: Options): { days?: number; out?: string } {
  return { ...(days === undefined ? {} : { days }), ...(out === undefined ? {} : { out }) };
}

async function tell(session: Session, options: CommonOptions, files: Files): Promise<void> {
  const { certFile, keyFile, serial, notAfter } = files;
  await answer(session, options, {
    document: files,
    words: () =>
      formatFields([
        ['certificate', certFile],
        ['key', keyFile],
        ['serial', serial],
        ['until', day(notAfter)],
      ]),
  });
}

function day(at: Date): string {
  return at.toISOString().replace(/\.\d+Z$/, 'Z');
}
