import type { Command } from 'commander';
import type { MergedCore } from '../../evidence/elfmerge.ts';
import { ExhibitError } from '../../evidence/error.ts';
import type { Digest } from '../../evidence/manifest.ts';
import { examples, GROUPS, optionsOf } from '../command.ts';
import { type MemoryOptions, parsePid, takesMemory, withMemory } from '../memory.ts';
import { openNewFile } from '../new-file.ts';
import { escapeText, formatBytes, formatCount, toJson } from '../print.ts';
import type { Session } from '../session.ts';

type Options = MemoryOptions & { output?: string };

/** `exhibit core BUNDLE PID`: one process' memory as a core file that lacks nothing that was captured. */
export function registerCore(program: Command, session: Session): void {
  const command = takesMemory(
    program
      .command('core')
      .description('write a complete core of a process, shared memory merged, for gdb and others')
      .helpGroup(GROUPS.evidence),
  )
    .argument('<pid>', 'the process')
    .option('--output <file>', 'core.PID when absent; - is stdout; nothing is overwritten')
    .action(async (bundle: string, pid: string) => {
      await core(session, bundle, parsePid(pid), optionsOf<Options>(command));
    });
  examples(command, [
    ['exhibit core BUNDLE 4711 && gdb -c core.4711', 'open it'],
    ['exhibit core s3://evidence/c1/n1/ID 4711 --output /cases/7/core.4711', 'from S3'],
  ]);
}

async function core(session: Session, bundle: string, pid: number, options: Options): Promise<void> {
  const file = options.output ?? `core.${pid}`;
  if (file === '-' && options.json === true)
    throw new ExhibitError('usage', 'With --json, stdout is for the report: name a file with --output.');
  if (file === '-' && session.stdout.isTerminal)
    throw new ExhibitError('usage', 'A core is no text for a terminal: use --output FILE, or a pipe.');
  const { openProcess } = await import('../../evidence/core-reader.ts');
  const { mergeCore } = await import('../../evidence/elfmerge.ts');
  const { readMappings } = await import('../../evidence/region-map.ts');
  await withMemory(session, bundle, options, async (archive) => {
    const process = await openProcess(archive, pid);
    const merged = mergeCore(archive, process, process.hasElsewhere ? await readMappings(archive, pid) : []);
    if (file === '-') return await pour(session, merged);
    const digest = await writeNew(file, session, merged);
    await report(session, { pid, file, merged, digest }, options);
  });
}

async function pour(session: Session, merged: MergedCore): Promise<void> {
  for await (const chunk of merged.bytes()) {
    session.signal.throwIfAborted();
    if (session.stdout.hungUp.aborted) return;
    await session.stdout.write(chunk);
  }
}

async function writeNew(file: string, session: Session, merged: MergedCore): Promise<Digest> {
  const { RunningDigest } = await import('../../evidence/frames.ts');
  await using out = await openNewFile(file, 'choose another --output');
  const digest = new RunningDigest();
  for await (const chunk of merged.bytes()) {
    session.signal.throwIfAborted();
    digest.update(chunk);
    await out.write(chunk);
  }
  await out.commit();
  return digest.digest();
}

interface Written {
  readonly pid: number;
  readonly file: string;
  readonly merged: MergedCore;
  readonly digest: Digest;
}

async function report({ stdout }: Session, { pid, file, merged, digest }: Written, options: Options): Promise<void> {
  const { segments, addedBytes } = merged;
  if (options.json === true) {
    await stdout.write(`${toJson({ pid, file, ...digest, segments, addedBytes }, 2)}\n`);
    return;
  }
  const added = addedBytes === 0 ? '' : `, of them ${formatBytes(addedBytes)} from outside its core`;
  const size = `${formatBytes(digest.sizeBytes)} in ${escapeText(file)}${added}`;
  await stdout.write(`${size}, ${formatCount(segments, 'segment')}, sha256 ${digest.sha256}\n`);
}
