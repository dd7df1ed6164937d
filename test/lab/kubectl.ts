/** The kubectl of this machine, or else the one that the lab's set-up has unpacked. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { kubectlFolder } from './cache.mjs';

export interface Kubectl {
  /** The folder of a program named kubectl, for a PATH. */
  readonly folder: string;
  /** kubectl asks for exec over WebSocket from 1.31 on (KEP-4006); before, over SPDY, which the lab's API does not speak. */
  readonly speaksWebSocket: boolean;
  readonly version: string;
}

/** Undefined where there is none; `kubectlObstacle` has the reason for a skipped test. */
export function findKubectl(): Kubectl | undefined {
  const folders = [join(kubectlFolder(), 'usr/bin'), ...(process.env.PATH ?? '').split(delimiter)];
  const folder = folders.find((one) => existsSync(join(one, 'kubectl')));
  if (folder === undefined) return undefined;
  const asked = ['version', '--client', '--output=json'];
  const { clientVersion } = JSON.parse(execFileSync(join(folder, 'kubectl'), asked, { encoding: 'utf8' }));
  const { major, minor, gitVersion } = clientVersion;
  return { folder, version: gitVersion, speaksWebSocket: Number(major) > 1 || Number.parseInt(minor, 10) >= 31 };
}

export const kubectlObstacle = 'needs kubectl: run node test/lab/setup.mjs tools as root';
