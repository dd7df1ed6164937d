/** A list over all its pages; a controller of more than this many pages answers the same page again and again. */
const MAX_PAGES = 10_000;

export async function everyPage<Row>(
  page: (token: string) => Promise<{ readonly rows: readonly Row[]; readonly next: string }>,
  limit = Number.POSITIVE_INFINITY,
): Promise<Row[]> {
  const rows: Row[] = [];
  let token = '';
  for (let count = 0; count < MAX_PAGES && rows.length < limit; count += 1) {
    const { rows: more, next } = await page(token);
    rows.push(...more);
    if (next === '') break;
    token = next;
  }
  return rows.length > limit ? rows.slice(0, limit) : rows;
}
