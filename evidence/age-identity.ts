import type { Identities } from './age-reader.ts';
import { ExhibitError } from './error.ts';

/** age's bech32 of 32 bytes, upper case. */
const X25519_IDENTITY = /^AGE-SECRET-KEY-1[02-9AC-HJ-NP-Z]{58}$/;
/** An identity file is read by people: a few lines. */
export const MAX_IDENTITY_BYTES = 64 * 1024;
const MAX_IDENTITIES = 100;

/** Beginnings of what people have instead, and what to say about it. */
const REFUSED: readonly (readonly [start: string, words: string])[] = [
  [
    'AGE-PLUGIN-',
    'is of an age plugin, which exhibit does not run: decrypt the objects with age itself (docs/encryption.md)',
  ],
  [
    '-----BEGIN OPENSSH',
    'is an SSH key, which exhibit does not take: decrypt the objects with age itself (docs/encryption.md)',
  ],
  [
    '-----BEGIN RSA',
    'is an SSH key, which exhibit does not take: decrypt the objects with age itself (docs/encryption.md)',
  ],
  ['AGE-SECRET-KEY-PQ-', 'is a post-quantum identity, to which no capture is encrypted'],
  ['-----BEGIN AGE', 'is encrypted itself: pass it on with `age -d FILE | exhibit ... --identity /dev/stdin`'],
  ['age-encryption.org/', 'is encrypted itself: pass it on with `age -d FILE | exhibit ... --identity /dev/stdin`'],
  ['age1', 'is a recipient, which anybody may know: the file that `age-keygen` made has the identity'],
];

/**
 * The identities of a file as `age-keygen` writes it: one a line, empty lines and those with `#` before them left out. `from`
 * names it in errors, which never hold a line of it. Throws ExhibitError `usage`.
 */
export function parseIdentities(text: string, from: string): Identities {
  const lines = text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'));
  for (const line of lines) {
    const refused = REFUSED.find(([start]) => line.startsWith(start));
    if (refused !== undefined) throw new ExhibitError('usage', `${from} ${refused[1]}.`);
    if (X25519_IDENTITY.test(line)) continue;
    throw new ExhibitError(
      'usage',
      `${from} holds a line that is no age identity (AGE-SECRET-KEY-1 and 58 characters).`,
    );
  }
  if (lines.length === 0) throw new ExhibitError('usage', `${from} holds no age identity.`);
  if (lines.length <= MAX_IDENTITIES) return lines;
  throw new ExhibitError('usage', `${from} holds more than ${MAX_IDENTITIES} identities.`);
}
