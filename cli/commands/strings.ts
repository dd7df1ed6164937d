import { type Command, Option } from 'commander';
import { ExhibitError } from '../../evidence/error.ts';
import type { WalkedProcess, Whereabouts } from '../../evidence/memory-walk.ts';
import type { FoundString, StringEncoding } from '../../evidence/printable.ts';
import type { Mapping } from '../../evidence/region-map.ts';
import { examples, GROUPS, optionsOf } from '../command.ts';
import { batchLines, choosePids, type LineOutput, type MemoryOptions, takesMemory, withMemory } from '../memory.ts';
import { escapeText, toJson } from '../print.ts';
import type { Session } from '../session.ts';

type Options = MemoryOptions & { min: string; encoding: StringEncoding | 'all' };

/** `exhibit strings BUNDLE [PID]`: printable runs in memory, each with its process, address and mapping. */
export function registerStrings(program: Command, session: Session): void {
  const command = takesMemory(
    program.command('strings').description('list printable strings in the captured memory').helpGroup(GROUPS.evidence),
  )
    .argument('[pid]', 'one process; all of them without')
    .option('--min <characters>', 'shorter strings are left out', '6')
    .addOption(new Option('--encoding <name>', 'what to look for').choices(['ascii', 'utf16le', 'all']).default('all'))
    .action(async (bundle: string, pid: string | undefined) => {
      await strings(session, bundle, pid, optionsOf<Options>(command));
    });
  examples(command, [
    ["exhibit strings BUNDLE 4711 | grep -i 'password'", 'secrets of one process'],
    ['exhibit strings BUNDLE --json --min 12 | jq -r \'select(.mapping == "[heap]").text\'', 'of all heaps'],
  ]);
}

const MAX_MIN_LENGTH = 65_536;

async function strings(session: Session, bundle: string, pid: string | undefined, options: Options): Promise<void> {
  const minLength = Number(/^\d{1,6}$/.exec(options.min)?.[0] ?? 0);
  if (minLength < 1 || minLength > MAX_MIN_LENGTH) {
    throw new ExhibitError('usage', `--min ${options.min} is no length: give a number from 1 to ${MAX_MIN_LENGTH}.`);
  }
  const { walkMemory } = await import('../../evidence/memory-walk.ts');
  const { createStringFinder, STRING_ENCODINGS } = await import('../../evidence/printable.ts');
  const encodings = options.encoding === 'all' ? STRING_ENCODINGS : [options.encoding];
  await withMemory(session, bundle, options, async (archive) => {
    const out = batchLines(session.stdout);
    for await (const process of walkMemory(archive, choosePids(archive, pid))) {
      const finder = createStringFinder(minLength, encodings);
      for await (const part of process.parts()) {
        if (part.kind === 'zeros') continue;
        if (!(await list(out, process, finder.push(part.start, part.bytes), options))) return;
      }
      if (!(await list(out, process, finder.end(), options))) return;
    }
    await out.flush();
  });
}

/** False when nobody reads any more. */
async function list(
  out: LineOutput,
  process: WalkedProcess,
  found: readonly FoundString[],
  options: Options,
): Promise<boolean> {
  const lineOf = options.json === true ? jsonLine : textLine;
  return await out.write(found.map((one) => lineOf(process.pid, one, process.where(one.address))).join(''));
}

/** Millions of strings lie in a few mappings. */
const described = new WeakMap<Mapping, string>();

function describeMapping(mapping: Mapping): string {
  const known = described.get(mapping) ?? `${mapping.permissions} ${escapeText(mapping.name)}`;
  described.set(mapping, known);
  return known;
}

function textLine(
  pid: number,
  { address, encoding, text, cut }: FoundString,
  { mapping, others }: Whereabouts,
): string {
  const where = mapping === undefined ? '-' : describeMapping(mapping);
  const more = others.length === 0 ? '' : ` +${others.length}`;
  const kind = encoding === 'ascii' ? 'a' : 'w';
  // All that is printable and is no character of its own on a terminal is the tab.
  const words = text.replaceAll('\t', '\\t');
  return `${pid}${more}\t0x${address.toString(16)}\t${kind}\t${where}\t${words}${cut ? '…' : ''}\n`;
}

function jsonLine(
  pid: number,
  { address, encoding, text, cut }: FoundString,
  { mapping, others }: Whereabouts,
): string {
  const also = others.map((other) => ({ pid: other.pid, address: `0x${other.address.toString(16)}` }));
  const where = { mapping: mapping?.name ?? null, permissions: mapping?.permissions ?? null };
  const record = { pid, address: `0x${address.toString(16)}`, encoding, ...where, text, ...(cut ? { cut } : {}) };
  return `${toJson(also.length === 0 ? record : { ...record, also })}\n`;
}
