import { type Selectable, type SqlBool, sql } from 'kysely';
import { ExhibitError } from '../../evidence/error.ts';
import { appendAudit } from './audit-log.ts';
import { countOfCase } from './captures.ts';
import { pageLimit, pageOf, positionOf } from './pages.ts';
import type { Schema } from './schema.ts';
import { type Database, type Sql, whole } from './sql.ts';
import type { CaseNoteRow, CaseRow, Store } from './store.ts';
import { isKey } from './text.ts';

/** A case is answered whole; what writes more notes than this is no person. */
const MAX_NOTES = 10_000;

type CaseCalls = Pick<Store, 'openCase' | 'case' | 'cases' | 'noteCase' | 'closeCase'>;

export function caseCalls({ read, writeAudited, dialect }: Sql): CaseCalls {
  return {
    async openCase({ caseId, title, openedBy, openedAtMs }, audit) {
      if (!isKey(caseId) || caseId === '')
        throw new ExhibitError('usage', 'the id of the case is none that can be stored');
      return await writeAudited(async (tx) => {
        const row = { case_id: caseId, title, opened_by: openedBy, opened_at_ms: whole(openedAtMs, 'openedAtMs') };
        const opened = await tx
          .insertInto('cases')
          .values({ ...row, state: 'open', closed_by: '', closed_at_ms: 0 })
          .onConflict((conflict) => conflict.column('case_id').doNothing())
          .returning('case_id')
          .executeTakeFirst();
        if (opened === undefined) throw new ExhibitError('usage', 'a case of this id is there already');
        await appendAudit(tx, [audit]);
        return await requireCase(tx, caseId);
      });
    },

    case: (caseId) => read((db) => findCase(db, caseId)),

    cases: ({ state }, page) =>
      read(async (db) => {
        const limit = pageLimit(page);
        const after = positionOf('cases', page.token, 'number');
        const found = await db
          .selectFrom('cases')
          .selectAll()
          .$if(state !== undefined, (query) => query.where('state', '=', state ?? 'open'))
          .$if(after !== undefined, (query) =>
            query.where(sql<SqlBool>`(opened_at_ms, case_id) < (${after?.[0]}, ${after?.[1]})`),
          )
          .orderBy('opened_at_ms', 'desc')
          .orderBy('case_id', 'desc')
          .limit(limit + 1)
          .execute();
        const counted = [];
        for (const row of found) counted.push({ row, captureCount: await countOfCase(db, row.case_id) });
        return pageOf(counted, limit, 'cases', {
          row: ({ row, captureCount }) => ({ ...caseOf(row), captureCount }),
          position: ({ row }) => [row.opened_at_ms, row.case_id],
        });
      }),

    noteCase: (caseId, note, audit) =>
      writeAudited(async (tx) => {
        const there = await tx
          .selectFrom('cases')
          .select('case_id')
          .where('case_id', '=', caseId)
          .$if(dialect.concurrentWrites, (query) => query.forUpdate())
          .executeTakeFirst();
        if (there === undefined) throw new ExhibitError('case-not-found', 'there is no case of this id');
        await addNote(tx, caseId, note);
        await appendAudit(tx, [audit]);
        return await requireCase(tx, caseId);
      }),

    closeCase: (caseId, closed, audit) =>
      writeAudited(async (tx) => {
        const done = await tx
          .updateTable('cases')
          .set({ state: 'closed', closed_by: closed.by, closed_at_ms: whole(closed.atMs, 'atMs') })
          .where('case_id', '=', caseId)
          .where('state', '=', 'open')
          .returning('case_id')
          .executeTakeFirst();
        if (done === undefined) throw new ExhibitError('case-not-found', 'there is no open case of this id');
        if (closed.text !== '') await addNote(tx, caseId, closed);
        await appendAudit(tx, [audit]);
        return await requireCase(tx, caseId);
      }),
  };
}

/** The row of the case is locked already: notes have their numbers from each other. */
async function addNote(tx: Database, caseId: string, note: CaseNoteRow): Promise<void> {
  const last = await tx
    .selectFrom('case_notes')
    .select((of) => of.fn.max('ordinal').as('ordinal'))
    .where('case_id', '=', caseId)
    .executeTakeFirst();
  const ordinal = Number(last?.ordinal ?? 0) + 1;
  if (ordinal > MAX_NOTES) throw new ExhibitError('usage', `a case has at most ${MAX_NOTES} notes; open another one`);
  const row = { case_id: caseId, ordinal, written_by: note.by, at_ms: whole(note.atMs, 'atMs'), note: note.text };
  await tx.insertInto('case_notes').values(row).execute();
}

async function findCase(db: Database, caseId: string): Promise<CaseRow | undefined> {
  const row = await db.selectFrom('cases').selectAll().where('case_id', '=', caseId).executeTakeFirst();
  if (row === undefined) return undefined;
  const query = db.selectFrom('case_notes').selectAll().where('case_id', '=', caseId).orderBy('ordinal');
  const notes = (await query.execute()).map((note) => ({ by: note.written_by, atMs: note.at_ms, text: note.note }));
  return { ...caseOf(row), notes, captureCount: await countOfCase(db, caseId) };
}

async function requireCase(db: Database, caseId: string): Promise<CaseRow> {
  const found = await findCase(db, caseId);
  if (found === undefined) throw new ExhibitError('case-not-found', 'there is no case of this id');
  return found;
}

const caseOf = (row: Selectable<Schema['cases']>) => ({
  caseId: row.case_id,
  title: row.title,
  openedBy: row.opened_by,
  openedAtMs: row.opened_at_ms,
  state: row.state,
  closedBy: row.closed_by,
  closedAtMs: row.closed_at_ms,
});
