import { describe, expect, test } from 'vitest';
import { shellCommands } from './shell-commands.ts';

describe('the commands of a piece of shell', () => {
  test.each([
    ['a --b c', [['a', '--b', 'c']]],
    ['a \'b c\' "d $E"x', [['a', 'b c', 'd $Ex']]],
    ['a | b && c; d', [['a'], ['b'], ['c'], ['d']]],
    ['a b # c\n# d\ne', [['a', 'b'], ['e']]],
    ['a \\\n  --b', [['a', '--b']]],
    ['X=1 Y=2 a b', [['a', 'b']]],
    ['a > b 2>/dev/null < c d', [['a', 'd']]],
    ['cat <<END > f\nexhibit none\nEND\na', [['cat'], ['a']]],
    ['a "$(b c)" $(d)', [['b', 'c'], ['d'], ['a', 'SUBSTITUTED', 'SUBSTITUTED']]],
    [
      'for x in y; do a $x; done',
      [
        ['for', 'x', 'in', 'y'],
        ['a', '$x'],
      ],
    ],
    [
      'source <(a b)',
      [
        ['a', 'b'],
        ['source', 'SUBSTITUTED'],
      ],
    ],
    ['a#b', [['a#b']]],
  ])('of %j', (script, words) => {
    expect(shellCommands(script)).toEqual(words);
  });
});
