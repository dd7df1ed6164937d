import { open } from 'node:fs/promises';
import { asHostPath } from '../runtime/runtime.ts';
import { type Host, reach } from './host.ts';

/** passwd(5): a node has some dozen users; what comes after this is not looked at. */
const MAX_PASSWD_BYTES = 1024 * 1024;
/** useradd(8) allows 32 characters of these; directories of users are laxer, so a few more. */
const NAME = /^[A-Za-z0-9_.][A-Za-z0-9_.@\\-]{0,63}\$?$/;

/** Pure: the name that passwd(5) gives a uid; undefined where it gives none, or one that is no name. */
export function nameInPasswd(passwd: string, uid: number): string | undefined {
  const line = passwd.split('\n').find((one) => one.split(':')[2] === String(uid));
  const name = line?.split(':')[0] ?? '';
  return NAME.test(name) ? name : undefined;
}

/** As the node itself calls it, not the agent's own container. Undefined where that cannot be read. */
export async function userName(host: Host, uid: number): Promise<string | undefined> {
  try {
    await using file = await open(reach(host, asHostPath('/etc/passwd')), 'r');
    const sizeBytes = Math.min((await file.stat()).size, MAX_PASSWD_BYTES);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(sizeBytes), 0, sizeBytes, 0);
    return nameInPasswd(buffer.toString('latin1', 0, bytesRead), uid);
  } catch {
    // No such file, or nobody's to read: the number says who it was.
    return undefined;
  }
}
