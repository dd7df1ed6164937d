import { constants } from 'node:fs';
import { open, readdir } from 'node:fs/promises';
import path from 'node:path';
import { findProgram, resolveBelow } from './below.ts';
import { findDaemons } from './daemon.ts';
import type { Host } from './host.ts';
import { KIB } from './procfs.ts';

/** What lies about on a node that changes how CRIU works. */
export interface CriuSurroundings {
  /** Configuration files that are there, each with its options as they are written (criu.org/Configuration_files). */
  readonly configurations: ReadonlyArray<{ readonly file: string; readonly options: readonly string[] }>;
  /** File names of its plugins. */
  readonly plugins: readonly string[];
  /** Device files of graphics processors. */
  readonly graphics: readonly string[];
}

/** runc hands CRIU runc.conf, unless a container's annotation names another; CRIU itself reads default.conf. */
const CONFIGURATIONS = ['/etc/criu/default.conf', '/etc/criu/runc.conf', '/etc/criu/crun.conf'];
/** CR_PLUGIN_DEFAULT is `<libdir>/criu`, and distributions differ about libdir. */
const PLUGIN_FOLDERS = [
  '/usr/lib/criu',
  '/usr/lib64/criu',
  '/usr/local/lib/criu',
  '/usr/libexec/criu',
  '/var/lib/criu',
];
const CONFIGURATION_BYTES = 64 * KIB;
/** More words of a file than this help nobody. */
const MOST_OPTIONS = 32;

/**
 * Why no dump can be made on this node: the containerd that serves `socket` (a path as the agent reaches it) would find no criu.
 * Undefined where it finds one, and where that cannot be told.
 */
export async function missingCriu(host: Host, socket: string): Promise<string | undefined> {
  const [daemon] = await findDaemons(host, 'containerd', socket).catch(() => []);
  if (daemon?.path === undefined) return undefined;
  if ((await findProgram(daemon.root, daemon.path, 'criu')) !== undefined) return undefined;
  return `there is no criu in the PATH of containerd (pid ${daemon.pid}): ${daemon.path.join(':')}`;
}

/** `root`: of the system that CRIU would run on, as the agent reaches it. */
export async function readCriuSurroundings(root: string): Promise<CriuSurroundings> {
  const configurations: { file: string; options: string[] }[] = [];
  for (const file of CONFIGURATIONS) {
    const text = await smallText(root, file);
    if (text !== undefined) configurations.push({ file, options: optionsIn(text) });
  }
  const names = await Promise.all(PLUGIN_FOLDERS.map((folder) => namesIn(root, folder)));
  const plugins = names.flat().filter((name) => /\.so$/.test(name));
  const devices = await namesIn(root, '/dev');
  const graphics = devices.filter((name) => /^(nvidia\d+|kfd)$/.test(name)).map((name) => `/dev/${name}`);
  return { configurations, plugins: [...new Set(plugins)], graphics };
}

/** One option a line; `#` begins a comment. */
export function optionsIn(text: string): string[] {
  return text
    .split('\n')
    .map((line) => line.replace(/#.*/, '').trim())
    .filter((line) => line !== '')
    .slice(0, MOST_OPTIONS);
}

async function smallText(root: string, file: string): Promise<string | undefined> {
  try {
    // O_NONBLOCK: a FIFO of that name would have no end.
    await using handle = await open(await resolveBelow(root, file), constants.O_RDONLY | constants.O_NONBLOCK);
    if (!(await handle.stat()).isFile()) return undefined;
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(CONFIGURATION_BYTES), 0, CONFIGURATION_BYTES, 0);
    return buffer.toString('utf8', 0, bytesRead);
  } catch {
    return undefined;
  }
}

async function namesIn(root: string, folder: string): Promise<string[]> {
  const where = await resolveBelow(root, folder).catch(() => path.posix.join(root, folder));
  return readdir(where).catch(() => []);
}
