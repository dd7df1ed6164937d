import { latin1, wordedText } from '../host/decode.ts';
import {
  BINFMT,
  KERNEL_MOUNTS,
  KERNEL_SETTINGS,
  KERNEL_TABLES,
  type KernelSetting,
  NODE_FILES,
} from '../host/kernel-settings.ts';
import { taintNames } from '../host/modules.ts';
import type { NodeFile } from '../host/node-request.ts';
import { parseMountinfo } from '../host/process-small.ts';
import { type FileReading, KIB, LIMIT_BYTES, MIB } from '../host/procfs.ts';
import { addFile, addLines, asking, type ReaderArchive } from './reader-archive.ts';

/** The longest one is /proc/cmdline; a page is what sysfs gives. */
const SETTING_MAX_BYTES = 64 * KIB;
/** A node with 100,000 mounts, or a traced function a line. */
const TABLE_MAX_BYTES = 32 * MIB;
/** Interpreters that are registered; distributions have a dozen. */
const BINFMT_MAX = 256;
/** Hierarchies of version 1 are 13 at most; containers may have mounted them again. */
const MOUNTS_PER_TYPE_MAX = 16;

/**
 * Reads what kernel-settings.ts lists: each file as it is, and the short ones as lines of `kernel.jsonl`. Returns the files of
 * proc(5) by name.
 */
export async function addKernel(work: ReaderArchive): Promise<Map<string, Buffer>> {
  const tables = await addTables(work);
  const mounts = parseMountinfo(tables.get('1/mountinfo') ?? Buffer.alloc(0));
  const rows = await addSettings(work, KERNEL_SETTINGS, SETTING_MAX_BYTES);
  const missing: string[] = [];
  for (const [type, settings] of Object.entries(KERNEL_MOUNTS)) {
    const points = mountPoints(mounts, type);
    if (points.length === 0) missing.push(type === 'cgroup' ? 'cgroup v1' : type);
    for (const point of points) {
      const there = settings.map(({ file, why }) => ({ file: `${point}/${file}`, why }));
      rows.push(...(await addSettings(work, there, TABLE_MAX_BYTES)));
    }
  }
  if (missing.length > 0) work.context.note(`Not mounted on the node, and so not read: ${missing.join(', ')}.`);
  for (const point of mountPoints(mounts, 'binfmt_misc')) rows.push(...(await addInterpreters(work, point)));
  await addLines(work, 'kernel', rows);
  await addNodeFiles(work);
  return tables;
}

function mountPoints(mounts: ReturnType<typeof parseMountinfo>, type: string): string[] {
  const points = mounts.filter((mount) => mount.type === type && mount.mountPointBase64 === undefined);
  return [...new Set(points.map(({ mountPoint }) => mountPoint))].slice(0, MOUNTS_PER_TYPE_MAX);
}

async function read(
  work: ReaderArchive,
  files: readonly string[],
  limitBytes: number,
): Promise<[string, FileReading][]> {
  const names = files.map((file): NodeFile => (file.startsWith('/') ? { sys: file } : { proc: file }));
  const readings: [string, FileReading][] = [];
  await asking(
    work,
    { kind: 'node', ask: { about: 'files', names, limitBytes } },
    'settings of the kernel',
    (reply) => {
      if (reply.kind === 'node' && reply.answer.about === 'file')
        readings.push([reply.answer.name, reply.answer.reading]);
    },
  );
  return readings;
}

/** Where a file is in the archive: as on the node. */
function memberOf(name: string): string {
  return name.startsWith('/') ? name.slice(1) : `proc/${name}`;
}

async function addReading(work: ReaderArchive, name: string, reading: FileReading): Promise<void> {
  const path = memberOf(name);
  if (reading.kind === 'failed') {
    // Not in this kernel, or not with its configuration.
    if (reading.errno !== 'ENOENT' && reading.errno !== 'ENOTDIR')
      work.context.gap({ what: path, errno: reading.errno, why: 'reading it failed' });
    return;
  }
  if (reading.truncated) work.context.gap({ what: path, why: `cut after ${reading.bytes.length} bytes` });
  await addFile(work, path, reading.bytes);
}

async function addTables(work: ReaderArchive): Promise<Map<string, Buffer>> {
  const tables = new Map<string, Buffer>();
  for (const [name, reading] of await read(
    work,
    KERNEL_TABLES.map(({ file }) => file),
    TABLE_MAX_BYTES,
  )) {
    await addReading(work, name, reading);
    if (reading.kind === 'read') tables.set(name, reading.bytes);
  }
  return tables;
}

/** What fits on a line of kernel.jsonl; longer ones are in their member only. */
const VALUE_MAX_BYTES = 4 * KIB;

async function addSettings(
  work: ReaderArchive,
  settings: readonly KernelSetting[],
  limitBytes: number,
): Promise<object[]> {
  const reasons = new Map(settings.map(({ file, why }) => [file, why]));
  const rows: object[] = [];
  for (const [name, reading] of await read(work, [...reasons.keys()], limitBytes)) {
    await addReading(work, name, reading);
    rows.push({ name: memberOf(name), reason: reasons.get(name), ...wordOf(name, reading, work) });
  }
  return rows;
}

function wordOf(name: string, reading: FileReading, { context }: ReaderArchive): object {
  if (reading.kind === 'failed') return reading.errno === 'ENOENT' ? { missing: true } : { errno: reading.errno };
  if (reading.bytes.length > VALUE_MAX_BYTES) return { sizeBytes: reading.bytes.length };
  const text = latin1(reading.bytes).replace(/\n$/, '');
  if (name === 'sys/kernel/tainted') {
    const taints = taintNames(Number(text));
    context.fact('taints', taints);
    return { value: text, taints };
  }
  if (name === 'uptime') {
    const seconds = Number(text.split(' ')[0]);
    const startedAt = new Date(Math.round(context.now() - seconds * 1000));
    return { value: text, ...(Number.isFinite(seconds) ? { startedAt: startedAt.toISOString() } : {}) };
  }
  return wordedText('value', text);
}

async function addInterpreters(work: ReaderArchive, folder: string): Promise<object[]> {
  let names: readonly string[] = [];
  await asking(
    work,
    { kind: 'node', ask: { about: 'names', folder, limit: BINFMT_MAX } },
    `names in ${folder}`,
    (reply) => {
      if (reply.kind !== 'node' || reply.answer.about !== 'names') return;
      const { errno, truncated } = reply.answer;
      if (errno !== undefined) work.context.gap({ what: folder, errno, why: 'it cannot be listed' });
      if (truncated) work.context.gap({ what: folder, why: `cut after ${BINFMT_MAX} names` });
      names = reply.answer.names;
    },
  );
  const files = names
    .filter((name) => name !== 'register')
    .map((name) => ({ file: `${folder}/${name}`, why: BINFMT.why }));
  return addSettings(work, files, SETTING_MAX_BYTES);
}

/** Resolved inside of the node's root as its first process has it. */
async function addNodeFiles(work: ReaderArchive): Promise<void> {
  const paths = NODE_FILES.map(({ file }) => file);
  const found: { path: string; bytes: Buffer; mtimeNs: bigint }[] = [];
  await asking(
    work,
    { kind: 'rootFiles', pid: 1, paths, limitBytes: LIMIT_BYTES.rootFile },
    'files of the node',
    (reply) => {
      if (reply.kind !== 'rootFile') return;
      const { path, result } = reply;
      if (result.kind === 'read') {
        found.push({ path, bytes: result.bytes, mtimeNs: result.identity.modifiedNs });
        if (result.truncated) work.context.gap({ what: path, why: `cut after ${result.bytes.length} bytes` });
      } else if (result.errno !== 'ENOENT' && result.errno !== 'ENOTDIR') {
        const errno = result.errno === undefined ? {} : { errno: result.errno };
        work.context.gap({ what: path, why: result.why, ...errno });
      }
    },
  );
  for (const { path, bytes, mtimeNs } of found) await addFile(work, path, bytes, mtimeNs);
}
