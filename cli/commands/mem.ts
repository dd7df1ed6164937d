import type { Command } from 'commander';
import type { RegionRecord } from '../../evidence/elfregion.ts';
import { ExhibitError } from '../../evidence/error.ts';
import type { ExplainedPart, Neighbourhood } from '../../evidence/memory-holes.ts';
import { examples, GROUPS, optionsOf } from '../command.ts';
import { createHexDump } from '../hexdump.ts';
import { batchLines, type MemoryOptions, parseNumber, parsePid, takesMemory, withMemory } from '../memory.ts';
import { escapeText, formatBytes, toJson } from '../print.ts';
import type { Session } from '../session.ts';

type Options = MemoryOptions & { raw?: boolean };

/** `exhibit mem BUNDLE PID ADDRESS LENGTH`: a stretch of one process' memory, out of the frames that hold it. */
export function registerMem(program: Command, session: Session): void {
  const command = takesMemory(
    program.command('mem').description("show a stretch of a process' memory").helpGroup(GROUPS.evidence),
  )
    .argument('<pid>', 'the process')
    .argument('<address>', '0x7f0000001000 or a decimal number')
    .argument('<length>', '4096, 0x1000, 4KiB')
    .option('--raw', 'write the bytes themselves; what was not captured is zeros, and is told on stderr')
    .action(async (bundle: string, pid: string, address: string, length: string) => {
      await mem(session, bundle, { pid, address, length }, optionsOf<Options>(command));
    });
  examples(command, [
    ['exhibit mem BUNDLE 4711 0x7ffe3a2c1000 4KiB', 'a page of the stack'],
    ['exhibit mem BUNDLE 4711 0x55d0c0de0000 1MiB --raw > heap.bin', 'bytes for another program'],
  ]);
}

interface Wanted {
  readonly pid: number;
  readonly start: bigint;
  readonly end: bigint;
}

function parse(words: { pid: string; address: string; length: string }): Wanted {
  const start = parseNumber(words.address, 'address', false);
  const length = parseNumber(words.length, 'length', true);
  const pid = parsePid(words.pid);
  if (length === 0n) throw new ExhibitError('usage', 'A length of 0 shows nothing: ask for at least one byte.');
  if (start + length > 1n << 64n) throw new ExhibitError('usage', 'The range goes beyond the last address, 2^64 - 1.');
  return { pid, start, end: start + length };
}

async function mem(
  session: Session,
  bundle: string,
  words: { pid: string; address: string; length: string },
  options: Options,
): Promise<void> {
  const wanted = parse(words);
  if (options.raw === true && options.json === true) throw new ExhibitError('usage', 'Choose --raw or --json.');
  if (options.raw === true && session.stdout.isTerminal) {
    throw new ExhibitError('usage', 'A terminal would obey these bytes: leave --raw away, or use a pipe or a file.');
  }
  const { openProcess } = await import('../../evidence/core-reader.ts');
  const { lookAround, readExplained } = await import('../../evidence/memory-holes.ts');
  await withMemory(session, bundle, options, async (archive) => {
    const process = await openProcess(archive, wanted.pid);
    const around = await lookAround(archive, wanted.pid, wanted);
    if (around.inside.length === 0) throw notMapped(wanted, around);
    const parts = readExplained(archive, process, wanted, around.inside);
    const missing = await show(session, wanted, around, parts, options);
    if (missing > 0n) session.exitCode = 1;
  });
}

/** How many bytes were not there. */
async function show(
  session: Session,
  wanted: Wanted,
  around: Neighbourhood,
  parts: AsyncIterable<ExplainedPart>,
  options: Options,
): Promise<bigint> {
  if (options.json === true) return await showJson(session, wanted, around, parts);
  return await (options.raw === true ? showRaw(session, parts) : showDump(session, parts));
}

async function showDump({ stdout }: Session, parts: AsyncIterable<ExplainedPart>): Promise<bigint> {
  const out = batchLines(stdout);
  const dump = createHexDump();
  let missing = 0n;
  for await (const part of parts) {
    if (part.kind === 'hole') missing += part.end - part.start;
    if (!(await out.write(lines(dump, part)))) break;
  }
  await out.write(dump.end());
  await out.flush();
  return missing;
}

function lines(dump: ReturnType<typeof createHexDump>, part: ExplainedPart): string {
  if (part.kind === 'bytes') return dump.bytes(part.start, part.bytes);
  if (part.kind === 'zeros') return dump.zeros(part.start, part.end);
  return dump.mark(part.start, part.end, `not captured: ${escapeText(part.why)}`);
}

const ZEROS = new Uint8Array(64 * 1024);

async function showRaw({ stdout, stderr }: Session, parts: AsyncIterable<ExplainedPart>): Promise<bigint> {
  let missing = 0n;
  for await (const part of parts) {
    if (part.kind === 'bytes') await stdout.write(part.bytes);
    else {
      if (part.kind === 'hole') {
        missing += part.end - part.start;
        const range = `0x${part.start.toString(16)} to 0x${part.end.toString(16)}`;
        await stderr.write(`exhibit: ${range} was not captured and is written as zeros: ${escapeText(part.why)}\n`);
      }
      for (let left = part.end - part.start; left > 0n && !stdout.hungUp.aborted; left -= BigInt(ZEROS.length)) {
        await stdout.write(left < ZEROS.length ? ZEROS.subarray(0, Number(left)) : ZEROS);
      }
    }
    if (stdout.hungUp.aborted) break;
  }
  return missing;
}

/** Written part by part: a gigabyte may have been asked for. */
async function showJson(
  { stdout }: Session,
  { pid, start, end }: Wanted,
  { inside }: Neighbourhood,
  parts: AsyncIterable<ExplainedPart>,
): Promise<bigint> {
  const hex = (value: bigint) => `0x${value.toString(16)}`;
  const mappings = inside.map(describeMapping);
  await stdout.write(`${toJson({ pid, start: hex(start), end: hex(end), mappings }).slice(0, -1)},"parts":[`);
  let missing = 0n;
  let separator = '\n';
  for await (const part of parts) {
    if (part.kind === 'hole') missing += part.end - part.start;
    const to = part.kind === 'bytes' ? part.start + BigInt(part.bytes.length) : part.end;
    const range = { kind: part.kind, start: hex(part.start), end: hex(to) };
    const more = part.kind === 'bytes' ? { base64: Buffer.from(part.bytes).toString('base64') } : {};
    await stdout.write(separator + toJson({ ...range, ...more, ...(part.kind === 'hole' ? { why: part.why } : {}) }));
    separator = ',\n';
    if (stdout.hungUp.aborted) return missing;
  }
  await stdout.write('\n]}\n');
  return missing;
}

function describeMapping({ start, end, permissions, kind, path }: RegionRecord) {
  return { start, end, permissions, kind, path };
}

function notMapped({ pid, start, end }: Wanted, { before, after }: Neighbourhood): ExhibitError {
  const near = [before, after].flatMap((region, index) => {
    if (region === undefined) return [];
    const size = formatBytes(Number(BigInt(region.end) - BigInt(region.start)));
    return [
      `${index === 0 ? 'before it' : 'after it'} ${region.start}-${region.end} (${size}, ${region.path || region.kind})`,
    ];
  });
  const where = near.length === 0 ? 'it has none' : `the nearest are ${near.join(' and ')}`;
  const range = `0x${start.toString(16)} to 0x${end.toString(16)}`;
  return new ExhibitError('bundle-not-found', `Process ${pid} has no mapping at ${range}: ${where}.`);
}
