import { constants } from 'node:os';

/** Of Linux (asm-generic/errno.h), what a file system may answer and Node has no name for, with errno(3)'s words. */
const UNNAMED: ReadonlyMap<number, readonly [name: string, words: string]> = new Map([
  [117, ['EUCLEAN', 'structure needs cleaning: the file system is damaged here']],
  [121, ['EREMOTEIO', 'remote I/O error']],
  [123, ['ENOMEDIUM', 'no medium found']],
  [126, ['ENOKEY', 'required key not available: it is encrypted']],
  [127, ['EKEYEXPIRED', 'key has expired']],
  [128, ['EKEYREVOKED', 'key has been revoked']],
  [129, ['EKEYREJECTED', 'key was rejected by service']],
  [133, ['EHWPOISON', 'memory page has a hardware error']],
]);

const NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(constants.errno)
    // Linux has two names for one number; EAGAIN and ENOTSUP/EOPNOTSUPP: keep the first that is listed.
    .reverse()
    .map(([name, number]) => [number, name]),
);

/** `ENOENT` for 2; `E` and the number where nobody has named it. ENOTSUP and EOPNOTSUPP are one number: `ENOTSUP`. */
export function errnoName(errno: number): string {
  if (errno === constants.errno.EOPNOTSUPP) return 'ENOTSUP';
  if (errno === constants.errno.EAGAIN) return 'EAGAIN';
  return NAMES.get(errno) ?? UNNAMED.get(errno)?.[0] ?? `E${errno}`;
}

/** As Node says them: libuv knows only the numbers that several systems have. */
const UNKNOWN = /^Unknown system error (-\d+)$/;

/** A system error's name from what Node has in `code`; undefined when it is another kind of code. */
export function nameOfCode(code: string): string | undefined {
  const unknown = UNKNOWN.exec(code)?.[1];
  if (unknown !== undefined) return errnoName(-Number(unknown));
  return /^E[A-Z0-9]+$/.test(code) ? code : undefined;
}

/** Node's message, with name and words where it had only a number. */
export function nameInMessage(message: string): string {
  return message.replace(/Unknown system error (-\d+)(: Unknown system error \1)?/, (_, number: string) => {
    const errno = -Number(number);
    return [errnoName(errno), ...(UNNAMED.get(errno)?.slice(1) ?? [])].join(': ');
  });
}
