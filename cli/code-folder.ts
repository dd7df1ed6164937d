import { lstatSync } from 'node:fs';
import path from 'node:path';
import { DEFAULT_SOCKET } from './default-socket.ts';

/** Made by the agent beside its socket, where that is in memory. */
const NAME = 'code';
/** stat(2): write permission of the group and of others. */
const FOREIGN_WRITE = 0o022;

/**
 * Where compiled code of ours may be read: whoever can write there decides what runs here. So nobody but this user may be able
 * to, and the folder is never made by a command. Undefined where there is none like that.
 */
export function codeFolder(args: readonly string[], env: NodeJS.ProcessEnv): string | undefined {
  const folder = path.join(path.dirname(path.resolve(socketOf(args, env))), NAME);
  return [folder, path.dirname(folder)].every(isOwn) ? folder : undefined;
}

function isOwn(folder: string): boolean {
  const found = lstatSync(folder, { throwIfNoEntry: false });
  return found?.isDirectory() === true && found.uid === process.getuid?.() && (found.mode & FOREIGN_WRITE) === 0;
}

/** As commander will find it, as far as that matters here: a socket that is missed costs nothing but time. */
function socketOf(args: readonly string[], env: NodeJS.ProcessEnv): string {
  const at = args.indexOf('--socket');
  return (at === -1 ? undefined : args[at + 1]) ?? (env.EXHIBIT_SOCKET || DEFAULT_SOCKET);
}
