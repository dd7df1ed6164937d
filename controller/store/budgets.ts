import { createHash } from 'node:crypto';
import { sql } from 'kysely';
import { ExhibitError } from '../../evidence/error.ts';
import { type Database, type Dialect, type Sql, whole } from './sql.ts';
import type { Store } from './store.ts';

/** What is over is looked for once in this time, by each replica. */
const TIDY_MS = 30_000;

/** Of one tidying: a burst of alerts leaves many. */
const TIDIED_ROWS = 5_000;

/** Keys are of alerts and people, of any length, and are only ever compared. */
const keyOf = (text: string): string => createHash('sha256').update(JSON.stringify(text)).digest('hex');

export function budgetCalls({ write, dialect }: Sql): Pick<Store, 'claim' | 'spend'> {
  let tidiedMs = Number.NEGATIVE_INFINITY;
  async function tidy(nowMs: number): Promise<void> {
    if (Math.abs(nowMs - tidiedMs) < TIDY_MS) return;
    tidiedMs = nowMs;
    await write((tx) => forget(tx, dialect, nowMs));
  }

  return {
    async claim(key, nowMs, windowMs) {
      await tidy(whole(nowMs, 'nowMs'));
      return await write(async (tx) => {
        const claimed = await tx
          .insertInto('claims')
          .values({ claim: keyOf(key), until_ms: whole(nowMs + windowMs, 'windowMs') })
          .onConflict((conflict) =>
            conflict
              .column('claim')
              .doUpdateSet((of) => ({ until_ms: of.ref('excluded.until_ms') }))
              .where('claims.until_ms', '<=', nowMs),
          )
          .returning('claim')
          .executeTakeFirst();
        return claimed !== undefined;
      });
    },

    async spend(budget, amount, { most, windowMs }, nowMs) {
      if (!Number.isSafeInteger(amount) || amount < 1) throw new ExhibitError('usage', 'less than one cannot be spent');
      await tidy(whole(nowMs, 'nowMs'));
      return await write(async (tx) => {
        const key = keyOf(budget);
        // Replicas that spend of one budget wait for each other here.
        await tx
          .insertInto('budgets')
          .values({ budget: key })
          .onConflict((conflict) =>
            conflict.column('budget').doUpdateSet((of) => ({ budget: of.ref('excluded.budget') })),
          )
          .execute();
        const spent = await tx
          .selectFrom('spends')
          .select((of) => of.fn.sum('amount').as('amount'))
          .where('budget', '=', key)
          .where('at_ms', '>', nowMs - windowMs)
          .executeTakeFirst();
        if (Number(spent?.amount ?? 0) + amount > most) return false;
        await tx
          .insertInto('spends')
          .values({ budget: key, at_ms: nowMs, amount, until_ms: whole(nowMs + windowMs, 'windowMs') })
          .onConflict((conflict) =>
            conflict.columns(['budget', 'at_ms']).doUpdateSet({ amount: sql`spends.amount + excluded.amount` }),
          )
          .execute();
        return true;
      });
    },
  };
}

/** Never waits for a row that somebody holds: two that tidy up would wait for each other. */
async function forget(tx: Database, { concurrentWrites }: Dialect, nowMs: number): Promise<void> {
  const claims = tx
    .selectFrom('claims')
    .select('claim')
    .where('until_ms', '<=', nowMs)
    .limit(TIDIED_ROWS)
    .$if(concurrentWrites, (query) => query.forUpdate().skipLocked());
  await tx.deleteFrom('claims').where('claim', 'in', claims).execute();
  const spends = tx
    .selectFrom('spends')
    .select(['budget', 'at_ms'])
    .where('until_ms', '<=', nowMs)
    .limit(TIDIED_ROWS)
    .$if(concurrentWrites, (query) => query.forUpdate().skipLocked());
  await tx
    .deleteFrom('spends')
    .where((of) => of(of.refTuple('budget', 'at_ms'), 'in', spends.$asTuple('budget', 'at_ms')))
    .execute();
}
