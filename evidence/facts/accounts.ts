import type { FactsBuilder, Scalar } from './facts.ts';

/** Lines of passwd(5) and group(5), as a container has them: anything at all. */

/** More than any container has; a hostile file has four million empty lines. */
const MAX_ACCOUNTS = 20_000;
const MAX_MEMBERS = 1000;

export function addUsers(builder: FactsBuilder, bytes: Uint8Array): void {
  for (const [name = '', password = '', uid = '', gid = '', , home = '', shell = ''] of records(builder, bytes)) {
    builder.add(`user ${name}`, {
      account: 'user',
      name,
      uids: [idOf(uid)],
      gids: [idOf(gid)],
      homes: [home],
      shells: [shell],
      passwords: [kindOfPassword(password)],
    });
  }
}

export function addGroups(builder: FactsBuilder, bytes: Uint8Array): void {
  for (const [name = '', , gid = '', members = ''] of records(builder, bytes)) {
    const names = members.split(',', MAX_MEMBERS).filter((member) => member !== '');
    builder.add(`group ${name}`, { account: 'group', name, gids: [idOf(gid)], members: names });
  }
}

function* records(builder: FactsBuilder, bytes: Uint8Array): Generator<string[]> {
  const lines = Buffer.from(bytes)
    .toString('utf8')
    .split('\n', MAX_ACCOUNTS + 1);
  if (lines.length > MAX_ACCOUNTS)
    builder.incomplete(`only the first ${MAX_ACCOUNTS} lines of a list of accounts are looked at`);
  for (const line of lines.slice(0, MAX_ACCOUNTS)) {
    if (line.trim() !== '' && !line.startsWith('#')) yield line.split(':', 7);
  }
}

function idOf(text: string): Scalar {
  return /^\d{1,10}$/.test(text) ? Number(text) : text;
}

/** A hash itself is a secret, and which one it is is in the evidence. */
function kindOfPassword(field: string): string {
  if (field === '') return 'empty';
  if (field === 'x') return 'in shadow';
  return /^[*!]/.test(field) ? 'locked' : 'set here';
}
