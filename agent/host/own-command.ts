import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { makeFolder } from './folder.ts';
import { memoryFileSystem } from './folder-facts.ts';

const COMMAND = fileURLToPath(new URL('../../cli/main.ts', import.meta.url));

/**
 * Runs `exhibit containers` once against this very agent, which leaves the command's compiled code beside the socket: for the
 * person who types `exhibit capture` it then starts in half the time. Nothing where that folder is not in memory.
 */
export async function runOwnCommand(socket: string, signal: AbortSignal): Promise<void> {
  const folder = path.dirname(socket);
  if ((await memoryFileSystem(folder)) === undefined) return;
  await makeFolder(path.join(folder, 'code'));
  const env = { EXHIBIT_SOCKET: socket };
  const child = spawn(process.execPath, [COMMAND, 'containers', '--json'], { stdio: 'ignore', env, signal });
  const [code] = await once(child, 'close');
  if (code !== 0) throw new Error(`exhibit containers ended with ${code}`);
}
