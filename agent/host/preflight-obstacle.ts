import { OBSTACLES, type Obstacle, type ObstacleKind } from '../../evidence/dump.ts';
import { wordsOf } from './decode.ts';

/** What one part of the preflight found. */
export interface Survey {
  readonly obstacles: readonly Obstacle[];
  readonly notes: readonly string[];
}

/** Obstacles listed in all: enough for a person, and small in a manifest. */
const LISTED_MAX = 100;
/** Characters of a name that are shown. */
const NAME_MAX = 200;

/** Words from Latin-1 that the target chose, safe to show in a line: what does not print is `\u{…}`. */
export function shown(text: string): string {
  const words = wordsOf(text).replaceAll(/\p{C}|\p{Zl}|\p{Zp}/gu, (one) => `\\u{${one.codePointAt(0)?.toString(16)}}`);
  return words.length <= NAME_MAX ? words : `${words.slice(0, NAME_MAX)}…`;
}

/** At most a hundred, in the order of OBSTACLES. Of each kind the first stay: the rest of a frequent kind goes before them. */
export function listed(obstacles: readonly Obstacle[]): Obstacle[] {
  const seen = new Map<ObstacleKind, number>();
  const ranked = obstacles.map((obstacle) => {
    const rank = seen.get(obstacle.kind) ?? 0;
    seen.set(obstacle.kind, rank + 1);
    return { obstacle, rank };
  });
  ranked.sort((a, b) => a.rank - b.rank);
  const kept = ranked.slice(0, LISTED_MAX).map(({ obstacle }) => obstacle);
  return kept.sort((a, b) => OBSTACLES.indexOf(a.kind) - OBSTACLES.indexOf(b.kind));
}
