/** The pages of this repository as a reader of Markdown sees them: headings, links, code, and the comments before code. */
import { readFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import MarkdownIt from 'markdown-it';

export const ROOT = path.resolve(import.meta.dirname, '../../..');

export interface Block {
  /** `page:line`, for messages. */
  readonly at: string;
  readonly page: string;
  /** The heading that it stands below. */
  readonly heading: string;
  /** `sh`, `yaml`..., `` without a language, `indented`. */
  readonly language: string;
  readonly text: string;
  /** The comment right before it, such as `run: bundle`. */
  readonly comment: string | undefined;
}

export interface Page {
  /** From the repository's root. */
  readonly name: string;
  readonly anchors: ReadonlySet<string>;
  readonly links: readonly { readonly at: string; readonly target: string }[];
  readonly blocks: readonly Block[];
  /** Code within text. */
  readonly spans: readonly { readonly at: string; readonly text: string }[];
}

const parser = new MarkdownIt({ html: true });

/** GitHub's anchor of a heading: lower case, punctuation away, spaces to dashes, numbered when it is there already. */
function slug(text: string, taken: ReadonlySet<string>): string {
  const plain = text
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\p{M}_ -]/gu, '')
    .replaceAll(' ', '-');
  let name = plain;
  for (let number = 1; taken.has(name); number += 1) name = `${plain}-${number}`;
  return name;
}

type Token = ReturnType<typeof parser.parse>[number];

const commentOf = (token: Token | undefined): string | undefined =>
  token?.type === 'html_block' ? /^<!--\s*(.*?)\s*-->\s*$/s.exec(token.content)?.[1] : undefined;

const plainText = (token: Token): string =>
  (token.children ?? []).map(({ type, content }) => (/text|code/.test(type) ? content : '')).join('');

export function readPage(name: string): Page {
  const tokens = parser.parse(readFileSync(path.join(ROOT, name), 'utf8'), {});
  const anchors = new Set<string>();
  const links: { at: string; target: string }[] = [];
  const spans: { at: string; text: string }[] = [];
  const blocks: Block[] = [];
  let heading = '';
  let line = 0;
  for (const [index, token] of tokens.entries()) {
    line = token.map?.[0] ?? line;
    const at = `${name}:${line + 1}`;
    if (token.type === 'inline') {
      if (tokens[index - 1]?.type === 'heading_open') {
        heading = plainText(token);
        anchors.add(slug(heading, anchors));
      }
      for (const child of token.children ?? []) {
        if (child.type === 'link_open') links.push({ at, target: decodeURI(String(child.attrGet('href'))) });
        if (child.type === 'code_inline') spans.push({ at, text: child.content });
      }
    }
    if (token.type === 'fence' || token.type === 'code_block') {
      const language = token.type === 'fence' ? (token.info.split(/\s/)[0] ?? '') : 'indented';
      const comment = commentOf(tokens[index - 1]);
      blocks.push({ at, page: name, heading, language, text: token.content, comment });
    }
  }
  return { name, anchors, links, blocks, spans };
}

/** Every page that is ours. */
export async function allPages(): Promise<Page[]> {
  const skipped = new Set(['node_modules', 'out', '.git']);
  const below = async (folder: string): Promise<string[]> => {
    const entries = await readdir(path.join(ROOT, folder), { withFileTypes: true });
    const found = entries.map(async (entry) => {
      const name = path.join(folder, entry.name);
      if (entry.isDirectory()) return skipped.has(entry.name) ? [] : await below(name);
      return entry.name.endsWith('.md') ? [name] : [];
    });
    return (await Promise.all(found)).flat();
  };
  return (await below('')).sort().map(readPage);
}
