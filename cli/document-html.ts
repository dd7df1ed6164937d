import type { Block, Document, Inline } from './document.ts';
import { escapeText } from './print.ts';

/**
 * A document as one page to print: no script, nothing from elsewhere (its own policy forbids both), and each character of
 * evidence is text. https://html.spec.whatwg.org/multipage/syntax.html
 */
export function toHtml({ title, blocks }: Document): string {
  return [
    '<!DOCTYPE html>',
    '<html lang="en">',
    '<head>',
    '<meta charset="utf-8">',
    `<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">`,
    `<title>${escapeHtml(title)}</title>`,
    `<style>${STYLE}</style>`,
    '</head>',
    '<body>',
    `<h1>${escapeHtml(title)}</h1>`,
    ...blocks.map(blockHtml),
    '</body>',
    '</html>',
    '',
  ].join('\n');
}

/** The paper is the printer's: A4 and Letter differ by a few lines, and everything here flows. */
const STYLE = `
@page { size: auto; margin: 16mm 14mm; }
body { font: 10pt/1.4 sans-serif; color: #000; background: #fff; max-width: 190mm; margin: 1em auto; padding: 0 1em; }
h1 { font-size: 16pt; } h2 { font-size: 12pt; margin: 1.6em 0 .4em; break-after: avoid; }
table { border-collapse: collapse; width: 100%; }
th, td { border: 1px solid #999; padding: .2em .5em; text-align: left; vertical-align: top; overflow-wrap: anywhere; }
thead { display: table-header-group; } tr { break-inside: avoid; }
th[scope=col] { white-space: nowrap; }
th[scope=row] { width: 30%; font-weight: normal; background: #eee; }
code { font: 9pt monospace; unicode-bidi: isolate; white-space: pre-wrap; }
.form td { height: 14mm; }
@media print { body { margin: 0; padding: 0; max-width: none; } }
`;

function blockHtml(block: Block): string {
  switch (block.kind) {
    case 'heading':
      return `<h2>${escapeHtml(block.text)}</h2>`;
    case 'paragraph':
      return `<p>${inline(block.text)}</p>`;
    case 'list':
      return `<ul>\n${block.items.map((item) => `<li>${inline(item)}</li>`).join('\n')}\n</ul>`;
    case 'fields': {
      const rows = block.rows.map(([name, value]) => row([`<th scope="row">${escapeHtml(name)}</th>`, data(value)]));
      return `<table>\n<tbody>\n${rows.join('\n')}\n</tbody>\n</table>`;
    }
    case 'table':
      return table('', block.headings, block.rows);
    case 'form':
      return table(
        ' class="form"',
        block.headings,
        Array.from({ length: block.rows }, () => block.headings.map(() => '')),
      );
    default:
      return block satisfies never;
  }
}

function table(attributes: string, headings: readonly string[], rows: readonly (readonly Inline[])[]): string {
  const head = row(headings.map((heading) => `<th scope="col">${escapeHtml(heading)}</th>`));
  const body = rows.map((cells) => row(cells.map(data))).join('\n');
  return `<table${attributes}>\n<thead>\n${head}\n</thead>\n<tbody>\n${body}\n</tbody>\n</table>`;
}

const row = (cells: readonly string[]) => `<tr>${cells.join('')}</tr>`;
const data = (content: Inline) => `<td>${inline(content)}</td>`;

function inline(content: Inline): string {
  return typeof content === 'string' ? escapeHtml(content) : `<code>${escapeHtml(content.code)}</code>`;
}

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

function escapeHtml(text: string): string {
  return escapeText(text).replaceAll(/[&<>"']/g, (character) => ENTITIES[character] ?? character);
}
