/** What the lines of the examination are about, in the order in which they are shown. */
export const GROUPS = ['runtime', 'checkpoint', 'kernel', 'agent', 'evidence'] as const;
export type Group = (typeof GROUPS)[number];

/** `warning`: a capture works, with less in it or at a higher price. `failure`: a capture would fail, or lack its memory. */
export type Status = 'ok' | 'warning' | 'failure';

/** One line of the examination: what was found, what that means for a capture, how to mend it. */
export interface Check {
  readonly group: Group;
  /** Stable, for programs. */
  readonly name: string;
  readonly status: Status;
  readonly found: string;
  readonly meaning: string;
  /** Empty when there is nothing to mend. */
  readonly mend: string;
}

/** The three ways to end a check, each a sentence without its full stop. */
export interface Line {
  ok(found: string, meaning: string): Check;
  warning(found: string, meaning: string, mend: string): Check;
  failure(found: string, meaning: string, mend: string): Check;
}

export function line(group: Group, name: string): Line {
  const make = (status: Status) => (found: string, meaning: string, mend: string) => ({
    group,
    name,
    status,
    found,
    meaning,
    mend,
  });
  return { ok: (found, meaning) => make('ok')(found, meaning, ''), warning: make('warning'), failure: make('failure') };
}

/** A check as one sentence, for whoever has no columns: what was found, what it means, how to mend it. */
export const reasonOf = ({ name, found, meaning, mend }: Check): string =>
  `${name}: ${found}; ${meaning}${mend === '' ? '' : `. To mend it: ${mend}`}`;

/** Binary sizes as people read them: `512 MiB`, `1.5 GiB`. */
export function size(bytes: number): string {
  const mib = bytes / 2 ** 20;
  return mib < 1024 ? `${Math.round(mib)} MiB` : `${Math.round(mib / 102.4) / 10} GiB`;
}

/** `1 container`, `3 containers`. */
export const count = (number: number, noun: string): string => `${number} ${noun}${number === 1 ? '' : 's'}`;
