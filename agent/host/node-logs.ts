import { opendir } from 'node:fs/promises';
import { errnoOf } from '../../evidence/error.ts';
import { asHostPath, type HostPath } from '../runtime/runtime.ts';
import { type Host, reach } from './host.ts';
import { tryNodeKernelLog } from './kmsg-outside.ts';

/** Of `/dev/kmsg`, and of each folder where a node keeps logs: undefined where it can be read, else the errno. */
export interface NodeLogFacts {
  readonly kernelLog: string | undefined;
  readonly folders: ReadonlyArray<{ readonly folder: string; readonly errno: string | undefined }>;
}

const FOLDERS: readonly HostPath[] = ['/run/log/journal', '/var/log/journal', '/var/log/audit'].map(asHostPath);

export async function lookAtNodeLogs(host: Host, signal: AbortSignal): Promise<NodeLogFacts> {
  const folders = await Promise.all(
    FOLDERS.map(async (folder) => {
      try {
        await (await opendir(reach(host, folder))).close();
        return { folder, errno: undefined };
      } catch (error) {
        return { folder, errno: errnoOf(error) ?? 'EIO' };
      }
    }),
  );
  return { kernelLog: await tryNodeKernelLog(host, signal), folders };
}
