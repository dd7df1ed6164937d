import type { Page, PageRequest } from './store/store.ts';

/** Pages of what a caller may see, out of pages of everything. */

export interface PageBounds {
  readonly usual: number;
  readonly most: number;
}

/** 0: the usual. More than the most is the most, as the messages say. */
export const pageSize = (asked: number, { usual, most }: PageBounds): number =>
  asked === 0 ? usual : Math.min(asked, most);

/** Pages of the store that one call looks through for rows that are the caller's; then it answers with fewer and a token. */
const MOST_STORE_PAGES = 20;

/**
 * The first page with something to see. It may hold fewer rows than asked for, even none, and is the last only without `next`:
 * a token says how far everything was looked through.
 */
export async function visiblePage<Row>(
  read: (page: PageRequest) => Promise<Page<Row>>,
  isVisible: (row: Row) => boolean | Promise<boolean>,
  page: PageRequest,
): Promise<Page<Row>> {
  let at = page;
  for (let looked = 1; ; looked += 1) {
    const { rows, next } = await read(at);
    const visible: Row[] = [];
    for (const row of rows) if (await isVisible(row)) visible.push(row);
    if (next === undefined) return { rows: visible };
    if (visible.length > 0 || looked >= MOST_STORE_PAGES) return { rows: visible, next };
    at = { ...at, token: next };
  }
}

/** A message of ours, with room below the 4 MiB that clients of gRPC take unless told otherwise. */
const PAGE_BYTES = 3 * 2 ** 20;
/** So few rows are never too many bytes: the store bounds what an agent can tell of one. */
const CHUNK_ROWS = 100;

/** Up to `page.limit` rows, fewer when they are large. */
export async function boundedPage<Row>(
  read: (page: PageRequest) => Promise<Page<Row>>,
  page: PageRequest,
): Promise<Page<Row>> {
  const rows: Row[] = [];
  let bytes = 0;
  let token = page.token;
  for (;;) {
    const limit = Math.min(CHUNK_ROWS, page.limit - rows.length);
    const chunk = await read({ limit, ...(token === undefined ? {} : { token }) });
    rows.push(...chunk.rows);
    if (chunk.next === undefined) return { rows };
    bytes += JSON.stringify(chunk.rows).length;
    token = chunk.next;
    if (rows.length >= page.limit || bytes > PAGE_BYTES / 2) return { rows, next: token };
  }
}
