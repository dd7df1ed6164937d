import { readFile } from 'node:fs/promises';
import { createEncryption, type Encrypt } from '../evidence/age-writer.ts';
import { ExhibitError } from '../evidence/error.ts';
import type { Config } from './config.ts';

/** A file of recipients is read by people: 32 lines of 62 characters, and comments. */
const MAX_RECIPIENTS_FILE_BYTES = 64 * 1024;

/**
 * To whom evidence is encrypted before it leaves the agent: those of the configuration and those of its file, each once. Undefined
 * where neither is set. Throws ExhibitError `config`: evidence that was to be encrypted must never be stored as it is.
 */
export async function openEncryption(config: Config['encryption']): Promise<Encrypt | undefined> {
  const { recipients, recipientsFile } = config;
  if (recipients.length === 0 && recipientsFile === undefined) return undefined;
  const listed = recipientsFile === undefined ? [] : await readRecipients(recipientsFile);
  return await createEncryption([...new Set([...recipients, ...listed])]);
}

/** One recipient a line, as `age -R` reads it; empty lines and those with `#` before them left out. */
async function readRecipients(file: string): Promise<string[]> {
  let text: string;
  try {
    text = await readFile(file, 'latin1');
  } catch (cause) {
    throw new ExhibitError('config', `encryption.recipientsFile ${file} cannot be read`, { cause });
  }
  if (text.length > MAX_RECIPIENTS_FILE_BYTES) {
    throw new ExhibitError('config', `encryption.recipientsFile ${file} is larger than 64 KiB: it holds no recipients`);
  }
  const lines = text.split('\n').map((line) => line.trim());
  const recipients = lines.filter((line) => line !== '' && !line.startsWith('#'));
  if (recipients.some((line) => line.startsWith('AGE-SECRET-KEY-'))) {
    const advice = 'keep identities off the node, and write here what `age-keygen -y FILE` says';
    throw new ExhibitError('config', `encryption.recipientsFile ${file} holds an identity: ${advice}`);
  }
  if (recipients.length > 0) return recipients;
  throw new ExhibitError('config', `encryption.recipientsFile ${file} holds no recipient`);
}
