import type { Block, Document, Inline } from './document.ts';
import { escapeText } from './print.ts';

/**
 * A document in Markdown (CommonMark with the tables of GitHub's). Names and digests are code spans, in which nothing has a
 * meaning; of prose every character is escaped that could begin something. https://spec.commonmark.org/0.31.2/
 */
export function toMarkdown({ title, blocks }: Document): string {
  return `# ${prose(title)}\n\n${blocks.map(blockText).join('\n\n')}\n`;
}

function blockText(block: Block): string {
  switch (block.kind) {
    case 'heading':
      return `## ${prose(block.text)}`;
    case 'paragraph':
      return inline(block.text);
    case 'list':
      return block.items.map((item) => `- ${inline(item)}`).join('\n');
    case 'fields':
      return table(['', ''], block.rows);
    case 'table':
      return table(block.headings, block.rows);
    case 'form':
      return table(
        block.headings,
        Array.from({ length: block.rows }, () => block.headings.map(() => '')),
      );
    default:
      return block satisfies never;
  }
}

function table(headings: readonly string[], rows: readonly (readonly Inline[])[]): string {
  const line = (cells: readonly Inline[]) => `| ${cells.map(cell).join(' | ')} |`;
  return [line(headings), `|${' --- |'.repeat(headings.length)}`, ...rows.map(line)].join('\n');
}

/** In a table a `|` ends the cell, also within a code span, unless a backslash is before it; prose has that already. */
function cell(content: Inline): string {
  return typeof content === 'string' ? inline(content) : inline(content).replaceAll('|', '\\|');
}

function inline(content: Inline): string {
  return typeof content === 'string' ? prose(content) : codeSpan(content.code);
}

/** The fence is longer than any run of backticks in it; a space at each end keeps it off them, and is not shown. */
function codeSpan(text: string): string {
  const shown = escapeText(text);
  if (shown === '') return '—';
  const longest = Math.max(0, ...[...shown.matchAll(/`+/g)].map(([run]) => run.length));
  const fence = '`'.repeat(longest + 1);
  // A span that has spaces at both ends loses one of each.
  const pad = /^[` ]|[` ]$/.test(shown) ? ' ' : '';
  return `${fence}${pad}${shown}${pad}${fence}`;
}

/**
 * Inline markup, HTML, entities and tables by their characters; block markup by what a line begins with; and what is no markup but
 * is made a link by some readers (`https://`, `//`, `mailto:`, `www.`, addresses with `@`).
 */
function prose(text: string): string {
  return escapeText(text)
    .trim()
    .replaceAll(/[\\`*_[\]<>&|~#!$@^{}]/g, '\\$&')
    .replaceAll(/(?<=[a-z]):(?=\S)|(?<=\/)\/|(?<=www)\./gi, '\\$&')
    .replace(/^[-+=:]/, '\\$&')
    .replace(/^(\d+)([.)])/, '$1\\$2');
}
