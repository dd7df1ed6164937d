import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseConfig } from '../../agent/config.ts';
import { openEncryption } from '../../agent/encryption.ts';
import { decryptFile } from '../../evidence/age-reader.ts';
import { encryptWhole } from '../../evidence/age-writer.ts';
import { gather } from './evidence/memory-sink.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'exhibit-recipients-'));
});
afterEach(() => rm(folder, { recursive: true }));

const configured = (yaml: string, env: NodeJS.ProcessEnv = {}) =>
  parseConfig(`sink: { url: "file:///e" }\n${yaml}`, 'agent.yaml', env).encryption;

async function recipientsFile(text: string): Promise<string> {
  const file = path.join(folder, 'recipients.txt');
  await writeFile(file, text);
  return file;
}

describe('the recipients of an agent', () => {
  test('are none unless told', async () => {
    expect(await openEncryption(configured(''))).toBeUndefined();
  });

  test('are those of the configuration and of its file together, each of whom opens everything', async () => {
    const identities = await Promise.all([1, 2, 3].map(() => generateX25519Identity()));
    const [first, second, third] = await Promise.all(identities.map((identity) => identityToRecipient(identity)));
    const file = await recipientsFile(`# the labs\n${second}\r\n\n  ${third}\n${first}\n`);
    const encrypt = await openEncryption(
      configured(`encryption: { recipients: [${first}] }`, { EXHIBIT_RECIPIENTS_FILE: file }),
    );
    if (encrypt === undefined) throw new Error('nothing would be encrypted');
    const stored = Buffer.from(await encryptWhole(encrypt, Buffer.from('evidence')));
    expect(stored.toString('latin1').match(/^-> X25519 /gm)).toHaveLength(3);
    for (const identity of identities) {
      expect((await gather(decryptFile([stored], [identity]))).toString()).toBe('evidence');
    }
  });

  test.each([
    ['that are none', 'age1nonsense\n', /age1nonsense is no X25519 recipient of age/],
    ['of SSH', 'ssh-ed25519 AAAASECRET lab\n', /a line that does not begin with age1 is no X25519 recipient of age/],
    ['that are an identity', 'AGE-SECRET-KEY-1SECRET\n', /holds an identity: keep identities off the node/],
    ['of an empty file', '# soon\n', /recipients\.txt holds no recipient/],
    ['of a file that is none', 'a\n'.repeat(40_000), /larger than 64 KiB/],
  ])('%s end the agent before it stores anything, and are not repeated', async (_, text, words) => {
    const opening = openEncryption(configured(`encryption: { recipientsFile: ${await recipientsFile(text)} }`));
    await expect(opening).rejects.toMatchObject({ code: 'config', message: expect.stringMatching(words) });
    await expect(opening).rejects.not.toThrow(/SECRET\n|AAAASECRET|-1SECRET/);
  });

  test('must be in a file that can be read', async () => {
    const opening = openEncryption(configured('encryption: { recipientsFile: /nonexistent/r }'));
    await expect(opening).rejects.toThrow(/recipientsFile \/nonexistent\/r cannot be read/);
  });

  test('cannot be an identity in the configuration, which the message does not repeat', () => {
    const message = (yaml: string): string => {
      try {
        configured(yaml);
      } catch (error) {
        return String(error);
      }
      return 'it was taken';
    };
    const listed = message('encryption: { recipients: [AGE-SECRET-KEY-1SECRET] }');
    expect(listed).toMatch(/encryption\.recipients\.0: expected a recipient of age \(age1\.\.\.\), never an identity/);
    expect(listed).not.toContain('1SECRET');
    const alone = message('encryption: { recipients: AGE-SECRET-KEY-1SECRET }');
    expect(alone).toMatch(/encryption\.recipients: expected array.*found something else/);
    expect(alone).not.toContain('1SECRET');
  });
});
