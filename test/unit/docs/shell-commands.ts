/**
 * The commands of a piece of shell as lists of words: what a test needs to give them to a parser of options, and no more. Quotes,
 * comments, continued lines, here-documents, pipes, redirections, substitutions (whose own commands come first) and assignments before a command.
 */

/** Words that only lead to a command. */
const KEYWORDS = new Set(['if', 'then', 'else', 'do', 'while', 'until', '!', '{', '}', 'done', 'fi', 'time', 'exec']);
const ASSIGNMENT = /^[A-Za-z_][A-Za-z0-9_]*=/;

export function shellCommands(script: string): string[][] {
  const text = withoutDocuments(script.replaceAll(/\\\n\s*/g, ' '));
  const commands: string[][] = [];
  let words: string[] = [];
  let word: string | undefined;
  let target = false;
  const endWord = () => {
    if (word !== undefined && !target) words.push(word);
    if (word !== undefined) target = false;
    word = undefined;
  };
  const endCommand = () => {
    endWord();
    while (words.length > 0 && (KEYWORDS.has(words[0] ?? '') || ASSIGNMENT.test(words[0] ?? ''))) words.shift();
    if (words.length > 0) commands.push(words);
    words = [];
    target = false;
  };
  for (let index = 0; index < text.length; index += 1) {
    const rest = text.slice(index);
    const character = rest[0] ?? '';
    const inner = /^(?:\$\(|<\()/.test(rest) ? substitution(rest) : undefined;
    if (inner !== undefined) {
      commands.push(...shellCommands(inner));
      word = `${word ?? ''}SUBSTITUTED`;
      index += inner.length + 2;
    } else if (character === '#' && word === undefined) {
      index += (/^[^\n]*/.exec(rest)?.[0].length ?? 1) - 1;
    } else if (character === "'") {
      const quoted = /^'([^']*)'/.exec(rest);
      word = `${word ?? ''}${quoted?.[1] ?? ''}`;
      index += (quoted?.[0].length ?? 1) - 1;
    } else if (character === '"') {
      const { content, length } = doubleQuoted(rest);
      commands.push(...content.inner.flatMap(shellCommands));
      word = `${word ?? ''}${content.text}`;
      index += length - 1;
    } else if (character === '\\') {
      word = `${word ?? ''}${rest[1] ?? ''}`;
      index += 1;
    } else if (/[|;&\n()]/.test(character) && !/^&>/.test(rest)) {
      endCommand();
    } else if (/^(?:\d?>>?|&>|<)/.test(rest) && (word === undefined || !/^\d/.test(rest))) {
      endWord();
      index += (/^(?:\d?>>?(?:&\d)?|&>|<)/.exec(rest)?.[0].length ?? 1) - 1;
      target = !/^\d?>&\d/.test(rest);
    } else if (/\s/.test(character)) {
      endWord();
    } else {
      word = `${word ?? ''}${character}`;
    }
  }
  endCommand();
  return commands;
}

/** What stands between `$(` or `<(` at the beginning and its end. */
function substitution(text: string): string {
  let depth = 0;
  for (const [index, character] of [...text].entries()) {
    if (character === '(') depth += 1;
    if (character === ')') depth -= 1;
    if (depth === 0 && index > 1) return text.slice(2, index);
  }
  return text.slice(2);
}

function doubleQuoted(text: string): { content: { text: string; inner: string[] }; length: number } {
  const inner: string[] = [];
  let content = '';
  let index = 1;
  for (; index < text.length && text[index] !== '"'; index += 1) {
    if (text[index] === '\\') {
      index += 1;
      content += text[index] ?? '';
    } else if (text.startsWith('$(', index)) {
      const found = substitution(text.slice(index));
      inner.push(found);
      content += 'SUBSTITUTED';
      index += found.length + 2;
    } else content += text[index] ?? '';
  }
  return { content: { text: content, inner }, length: index + 1 };
}

/** Here-documents are data. */
const withoutDocuments = (script: string): string =>
  script.replaceAll(/<<-?\s*['"]?(\w+)['"]?([^\n]*)\n[\s\S]*?^\s*\1$/gm, (_, __, behind: string) => behind);
