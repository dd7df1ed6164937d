import { stat } from 'node:fs/promises';
import type { Command } from 'commander';
import { readAtMost } from '../../evidence/byte-sink.ts';
import { ExhibitError } from '../../evidence/error.ts';
import type { MemoryMatch, StringMatch } from '../../evidence/memory-scan.ts';
import type { WalkedProcess } from '../../evidence/memory-walk.ts';
import type { RuleSource } from '../../evidence/yara.ts';
import { examples, GROUPS, optionsOf } from '../command.ts';
import { batchLines, choosePids, type MemoryOptions, parseNumber, takesMemory, withMemory } from '../memory.ts';
import { escapeText, toJson } from '../print.ts';
import type { Session } from '../session.ts';

type Options = MemoryOptions & { yara: string[]; window: string; maxMatches: string };

/** `exhibit scan --yara RULES BUNDLE [PID]`: YARA over the memory in a bundle. */
export function registerScan(program: Command, session: Session): void {
  const command = takesMemory(
    program.command('scan').description('look for YARA rules in the captured memory').helpGroup(GROUPS.evidence),
  )
    .argument('[pid]', 'one process; all of them without')
    .requiredOption('--yara <file>', 'rules; may be given several times', (file, files: string[] = []) => [
      ...files,
      file,
    ])
    .option('--window <size>', "memory that a rule's condition is asked of at once, 4MiB to 512MiB", '32MiB')
    .option('--max-matches <number>', 'matches that are told of one string in one window', '1000')
    .action(async (bundle: string, pid: string | undefined) => {
      await scan(session, bundle, pid, optionsOf<Options>(command));
    });
  examples(command, [
    ['exhibit scan --yara rules.yar BUNDLE', 'all processes'],
    ['exhibit scan --yara a.yar --yara b.yar BUNDLE 4711 --json', 'one process, JSON lines'],
  ]);
}

/** Four times the overlap at least; WebAssembly has 4 GiB in all, and holds a window twice. */
const WINDOW_BYTES = { min: 4 * 1024 * 1024, max: 512 * 1024 * 1024 };
/** What two windows share. A match that is longer, and lies across the cut, is missed. */
const OVERLAP_BYTES = 1024 * 1024;
const MAX_MAX_MATCHES = 1_000_000;

async function scan(session: Session, bundle: string, pid: string | undefined, options: Options): Promise<void> {
  const windowBytes = Number(parseNumber(options.window, 'window', true));
  if (windowBytes < WINDOW_BYTES.min || windowBytes > WINDOW_BYTES.max) {
    throw new ExhibitError('usage', `--window ${options.window} is out of bounds: choose from 4MiB to 512MiB.`);
  }
  const maxMatches = Number(/^\d{1,7}$/.exec(options.maxMatches)?.[0] ?? 0);
  if (maxMatches < 1 || maxMatches > MAX_MAX_MATCHES) {
    throw new ExhibitError(
      'usage',
      `--max-matches ${options.maxMatches} is none: choose from 1 to ${MAX_MAX_MATCHES}.`,
    );
  }
  const { compileRules } = await import('../../evidence/yara.ts');
  const { scanProcess } = await import('../../evidence/memory-scan.ts');
  const { walkMemory } = await import('../../evidence/memory-walk.ts');
  using engine = await compileRules(await readRules(options.yara), maxMatches);
  for (const warning of engine.warnings) await session.stderr.write(`exhibit: ${escapeText(warning)}\n`);
  await withMemory(session, bundle, options, async (archive) => {
    const out = batchLines(session.stdout);
    for await (const process of walkMemory(archive, choosePids(archive, pid))) {
      for await (const match of scanProcess(engine, process, { windowBytes, overlapBytes: OVERLAP_BYTES })) {
        session.signal.throwIfAborted();
        const lines = options.json === true ? jsonLine(process, match, maxMatches) : textLines(process, match);
        if (!(await out.write(lines))) return;
      }
    }
    await out.flush();
  });
}

/** Large collections of rules have some 50 MB. */
const MAX_RULES_BYTES = 256 * 1024 * 1024;

async function readRules(files: readonly string[]): Promise<RuleSource[]> {
  const { createReadStream } = await import('node:fs');
  const sources: RuleSource[] = [];
  for (const file of files) {
    const found = await stat(file).catch((cause: unknown) => {
      throw new ExhibitError('usage', `The rules in ${file} cannot be read`, { cause });
    });
    if (!found.isFile()) throw new ExhibitError('usage', `${file} is no file: name the files of rules one by one.`);
    const bytes = await readAtMost(createReadStream(file), MAX_RULES_BYTES);
    if (bytes === undefined)
      throw new ExhibitError('usage', `${file} is larger than the 256 MiB that are read of rules.`);
    sources.push({ name: file, text: Buffer.from(bytes).toString('utf8') });
  }
  return sources;
}

/** One line a string that matched; a rule that needs none has one line. */
function textLines(process: WalkedProcess, match: MemoryMatch): string {
  const tags = match.tags.length === 0 ? '' : ` [${match.tags.join(',')}]`;
  const rule = escapeText(`${match.rule}${tags}`);
  const line = (address: bigint, what: string) => {
    const { mapping, others } = process.where(address);
    const where = mapping === undefined ? '-' : `${mapping.permissions} ${escapeText(mapping.name)}`;
    const more = others.length === 0 ? '' : ` +${others.length}`;
    return `${rule}\t${match.pid}${more}\t0x${address.toString(16)}\t${where}\t${what}\n`;
  };
  if (match.strings.length === 0)
    return line(match.window.start, `its condition, in ${match.window.sizeBytes} bytes from here`);
  return match.strings.map((string) => line(string.address, `${string.id}: ${preview(string)}`)).join('');
}

function preview({ bytes, sizeBytes }: StringMatch): string {
  const text = escapeText(Buffer.from(bytes).toString('latin1'));
  return bytes.length < sizeBytes ? `${text}… (${sizeBytes} bytes)` : text;
}

function jsonLine(process: WalkedProcess, match: MemoryMatch, maxMatches: number): string {
  const hex = (value: bigint) => `0x${value.toString(16)}`;
  const counts = new Map<string, number>();
  const strings = match.strings.map(({ id, address, sizeBytes, bytes }) => {
    counts.set(id, (counts.get(id) ?? 0) + 1);
    const { mapping, others } = process.where(address);
    const also = others.map((other) => ({ pid: other.pid, address: hex(other.address) }));
    const where = { mapping: mapping?.name ?? null, permissions: mapping?.permissions ?? null };
    const found = { id, address: hex(address), sizeBytes, ...where, base64: Buffer.from(bytes).toString('base64') };
    return also.length === 0 ? found : { ...found, also };
  });
  const limited = [...counts].filter(([, count]) => count >= maxMatches).map(([id]) => id);
  const { pid, rule, namespace, tags, window } = match;
  const record = {
    pid,
    rule,
    namespace,
    tags,
    window: { start: hex(window.start), sizeBytes: window.sizeBytes },
    strings,
  };
  return `${toJson(limited.length === 0 ? record : { ...record, limited })}\n`;
}
