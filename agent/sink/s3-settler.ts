import { ExhibitError, explain, isExhibitError } from '../../evidence/error.ts';
import type { S3Place } from './s3-errors.ts';
import type { Opened } from './s3-ledger.ts';
import { noteSafely, type SettleContext, settleError, settleObject } from './s3-settle.ts';
import type { Settled, Sink } from './sink.ts';
import type { Ledger, Spool, SpoolLog } from './spool.ts';

export interface SettlerOptions {
  /** Absent: nothing is known of what has ended. */
  readonly spool: Spool | undefined;
  readonly sinkName: string;
  readonly url: string;
  readonly place: S3Place;
  readonly contextOf: (opened: Opened) => SettleContext;
  readonly log?: SpoolLog | undefined;
}

export interface Settler extends Pick<Sink, 'settle' | 'forget'> {
  /** Aborts the uploads whose writers were cancelled while S3 was away. Never throws; what is still not possible stays noted. */
  tidy(signal: AbortSignal): Promise<void>;
}

/** The ends of one sink's objects, by their ledgers. */
export function createSettler({ spool, sinkName, url, place, contextOf, log }: SettlerOptions): Settler {
  const settleLedger = async (ledger: Ledger, signal: AbortSignal): Promise<Settled> => {
    try {
      return await settleObject(contextOf(ledger.state.opened), ledger, signal);
    } catch (error) {
      if (ledger.state.settled !== undefined) return ledger.state.settled;
      if (!isExhibitError(error, 'sink-exists')) throw settleError(error, ledger, place, signal);
      await noteSafely(ledger, { kind: 'settled', settled: { kind: 'lost', why: error.message } });
      await ledger.discardAll();
      return { kind: 'lost', why: error.message };
    }
  };
  return {
    async settle(key, signal) {
      const ledger = await spool?.find(sinkName, key);
      if (ledger === undefined) return { kind: 'lost', why: `nothing is known of ${key}` };
      expectSettleable(ledger, url);
      return await ledger.inTurn(() => settleLedger(ledger, signal));
    },
    async forget(key) {
      const ledger = await spool?.find(sinkName, key);
      if (ledger === undefined) return;
      if (ledger.state.settled === undefined) throw new ExhibitError('internal', `${key} is not settled yet`);
      await spool?.remove(ledger);
    },
    async tidy(signal) {
      const ledgers = (await spool?.all(sinkName).catch(() => [])) ?? [];
      for (const ledger of ledgers) {
        const { givenUp, opened } = ledger.state;
        if (!givenUp || ledger.active || opened.sinkUrl !== url) continue;
        try {
          await ledger.inTurn(() => settleLedger(ledger, signal));
          await spool?.remove(ledger);
        } catch (error) {
          if (!signal.aborted) log?.warn({ key: opened.key, error: explain(error) }, 'upload is still not aborted');
        }
      }
    },
  };
}

function expectSettleable({ active, state }: Ledger, url: string): void {
  const { key, sinkUrl } = state.opened;
  if (active) throw new ExhibitError('sink-failed', `${key} is still being written`);
  if (sinkUrl === url) return;
  throw new ExhibitError(
    'sink-failed',
    `${key} was begun in ${sinkUrl}, and this sink is ${url} now; give it its old url back, or the new one another name`,
  );
}
