import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { ExhibitError } from '../../evidence/error.ts';
import { memoryFileSystem } from '../host/folder-facts.ts';
import { openVault, type Vault, vaultSecret } from './vault.ts';

export interface SpoolConfig {
  /** Absent: `spool` in the state folder, which is on a tmpfs. */
  readonly path?: string | undefined;
  /** Whether a file system that is not memory may be written. */
  readonly disk: boolean;
  /** A secret of one's own, which outlives a reboot; absent: one in the state folder, which does not. */
  readonly keyFile?: string | undefined;
}

/**
 * Opens the vault where the policy allows it. `stateDir` as this process reaches it.
 * @throws ExhibitError `config`
 */
export async function openSpoolVault(config: SpoolConfig, stateDir: string): Promise<Vault> {
  const folder = spoolFolder(config, stateDir);
  if (!config.disk && (await memoryFileSystem(folder)) === undefined) {
    throw new ExhibitError(
      'config',
      `The spool ${folder} is not in memory, and would write evidence over the node's disk; ` +
        'put stateDir or spool.path on a tmpfs, or allow it with spool.disk: true',
    );
  }
  const secret =
    config.keyFile === undefined
      ? await vaultSecret(path.join(stateDir, 'spool.key'))
      : await givenSecret(config.keyFile);
  return await openVault(folder, secret);
}

export const spoolFolder = ({ path: given }: SpoolConfig, stateDir: string): string =>
  given ?? path.join(stateDir, 'spool');

/** Of 128 bits: nobody tries them all. */
export const MIN_SECRET_BYTES = 16;

async function givenSecret(file: string): Promise<Uint8Array> {
  const secret = await readFile(file).catch((cause: unknown) => {
    throw new ExhibitError('config', `spool.keyFile ${file} cannot be read`, { cause });
  });
  if (secret.length >= MIN_SECRET_BYTES) return secret;
  throw new ExhibitError(
    'config',
    `spool.keyFile ${file} is shorter than ${MIN_SECRET_BYTES} bytes; make one with: openssl rand -out ${file} 32`,
  );
}
