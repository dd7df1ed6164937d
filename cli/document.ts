/**
 * A document for people, as data: what it says is decided once, and each renderer (document-markdown.ts, document-html.ts) writes all of it.
 * Every string may come from a hostile container; escaping is the renderer's, so nothing here is markup.
 */
export interface Document {
  readonly title: string;
  readonly blocks: readonly Block[];
}

/** Prose, or something that is shown as it is: a name, a digest, a time. */
export type Inline = string | { readonly code: string };

export type Block =
  | { readonly kind: 'heading'; readonly text: string }
  | { readonly kind: 'paragraph'; readonly text: Inline }
  | { readonly kind: 'list'; readonly items: readonly Inline[] }
  | { readonly kind: 'fields'; readonly rows: readonly (readonly [name: string, value: Inline])[] }
  | { readonly kind: 'table'; readonly headings: readonly string[]; readonly rows: readonly (readonly Inline[])[] }
  /** Rows to be filled in by hand. */
  | { readonly kind: 'form'; readonly headings: readonly string[]; readonly rows: number };

export const code = (text: string | number): Inline => ({ code: String(text) });
