/** The memory of one capture as a responder gets at it: through the command line, as complete cores. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { headersBytesOf, readHeaders } from '../../evidence/elfheader.ts';
import { type RegionRecord, regionSchema } from '../../evidence/elfregion.ts';
import { MEMORY_MEMBERS, type SharedObjectRecord, sharedObjectSchema } from '../../evidence/elsewhere.ts';
import type { ArtifactRecord, Manifest } from '../../evidence/manifest.ts';
import type { startAgent } from '../lab/agent.ts';
import { json, program, shell } from './readers.ts';

export type Agent = Awaited<ReturnType<typeof startAgent>>;

export interface TakenMemory extends Disposable {
  readonly manifest: Manifest;
  /** The manifest's entry for memory. */
  readonly record: ArtifactRecord;
  /** Of all processes that have a core. */
  readonly pids: readonly number[];
  /** True when mappings that several processes share are stored apart from the cores. */
  readonly hasShared: boolean;
  regions(pid: number): RegionRecord[];
  /** A file with everything of the process that was captured. */
  core(pid: number): Promise<string>;
  /** All gaps: those of the manifest, of regions and of shared memory, in words. */
  gaps(): string[];
  /** Why what is at an address of a process was not captured. */
  gapsAt(pid: number, address: bigint): string[];
}

/** The one place that knows how a complete core comes out of a bundle. */
async function completeCore(agent: Agent, bundle: string, unpacked: string, pid: number): Promise<string> {
  const own = path.join(unpacked, MEMORY_MEMBERS.core(pid));
  if (!existsSync(path.join(unpacked, MEMORY_MEMBERS.elsewhere(pid)))) return own;
  const whole = `${own}.whole`;
  if (existsSync(whole)) return whole;
  const { code, stderr } = await agent.exhibit('core', bundle, String(pid), '--output', whole);
  if (code !== 0) throw new Error(`exhibit core ${pid}: ${stderr}`);
  return whole;
}

/** Whether the region is a mapping of the object. */
const shows = (object: SharedObjectRecord, pid: number, region: RegionRecord): boolean =>
  object.mappings.some((mapping) => mapping.pid === pid && mapping.start === region.start);

/** Reads a bundle that holds memory. `captureId` is looked for below the agent's sink. */
export async function readTaken(agent: Agent, captureId: string, node = 'lab-node'): Promise<TakenMemory> {
  const bundle = path.join(agent.evidence, 'lab', node, captureId);
  const folder = mkdtempSync(path.join(tmpdir(), 'exhibit-taken-'));
  const archive = path.join(folder, 'memory.tar');
  const unpacked = path.join(folder, 'memory');
  const { code, stderr } = await agent.exhibit('extract', bundle, 'memory', '--out', archive);
  if (code !== 0) throw new Error(`exhibit extract: ${stderr}`);
  mkdirSync(unpacked);
  shell('tar -x -f "$1" -C "$2" --no-same-owner', archive, unpacked);
  rmSync(archive);
  const manifest = json<Manifest>(bundle, 'manifest.json');
  const record = manifest.artifacts.find(({ name }) => name === 'memory');
  if (record === undefined) throw new Error('the capture took no memory');
  const lines = (member: string): unknown[] => {
    const file = path.join(unpacked, member);
    if (!existsSync(file)) return [];
    const all = readFileSync(file, 'utf8').trim().split('\n').filter(Boolean);
    return all.map((line) => JSON.parse(line));
  };
  const regions = (pid: number) => lines(MEMORY_MEMBERS.regions(pid)).map((line) => regionSchema.parse(line));
  const shared = lines(MEMORY_MEMBERS.sharedObjects).map((line) => sharedObjectSchema.parse(line));
  const pids = readdirSync(unpacked).filter((name) => /^\d+$/.test(name));
  return {
    manifest,
    record,
    pids: pids.map(Number),
    hasShared: shared.length > 0,
    regions,
    core: (pid) => completeCore(agent, bundle, unpacked, pid),
    gaps: () => [
      ...record.gaps.map((gap) => `${gap.what}: ${gap.why}`),
      ...[...pids.flatMap((pid) => regions(Number(pid))), ...shared].flatMap(({ gaps }) => gaps.map(({ why }) => why)),
    ],
    gapsAt(pid, address) {
      const region = regions(pid).find(({ start, end }) => BigInt(start) <= address && address < BigInt(end));
      if (region === undefined) return [];
      const objects = shared.filter((object) => shows(object, pid, region));
      const skipped = region.skipped === undefined ? [] : [region.skipped];
      return [...skipped, ...[region, ...objects].flatMap(({ gaps }) => gaps.map(({ why }) => why))];
    },
    [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }),
  };
}

/** `exhibit capture TARGET --artifacts memory`, which must end well, and its evidence, which must be intact. */
export async function takeMemory(agent: Agent, target: string, ...argv: string[]): Promise<TakenMemory> {
  const { code, stdout, stderr } = await agent.exhibit('capture', target, '--artifacts', 'memory', ...argv);
  if (code !== 0) throw new Error(`exhibit capture ${target}: exit ${code}: ${stderr}`);
  return readTaken(agent, /[0-9a-f]{8}-[0-9a-f-]{27}/.exec(stdout)?.[0] ?? 'no id');
}

/** Addresses at which a text lies in the parts of a core that were captured, as `strings` and YARA would find it. */
export function addressesOf(core: string, text: string): bigint[] {
  const bytes = readFileSync(core);
  const headers = readHeaders(bytes.subarray(0, headersBytesOf(bytes)));
  if (headers === undefined) throw new Error(`${core} is no core`);
  const found: bigint[] = [];
  for (let at = bytes.indexOf(text); at !== -1; at = bytes.indexOf(text, at + 1)) {
    const segment = headers.programHeaders.find(
      ({ kind, fileOffset, fileBytes }) =>
        kind === 'load' && fileOffset <= at && at + text.length <= fileOffset + fileBytes,
    );
    if (segment !== undefined) found.push(segment.address + BigInt(at - segment.fileOffset));
  }
  return found;
}

/** What gdb says to each command with the core open. Memory is read from the core alone. */
export function gdb(core: string, commands: readonly string[]): string {
  const argv = [`core-file ${core}`, ...commands].flatMap((each) => ['-ex', each]);
  const { stdout, stderr } = program('gdb', ['-nx', '-batch', ...argv]);
  return `${stdout}${stderr}`;
}

export const atAddress = (address: bigint): string => `x/s 0x${address.toString(16)}`;

/** What readelf and gdb have to say against a core; empty when it opens. */
export function complaints(core: string): string {
  const { stderr } = program('readelf', ['-lhnW', core]);
  const said = gdb(core, ['info threads']).split('\n');
  return [stderr, ...said.filter((line) => /not a core|not recognized|truncated|corrupt|malformed/i.test(line))].join(
    '',
  );
}
