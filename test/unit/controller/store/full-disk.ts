/** Runs where the folder that is named lies on a small file system of its own: fills it, and says as JSON what became of the store. */
import { closeSync, openSync, rmSync, writeSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { pino } from 'pino';
import { openStore } from '../../../../controller/store/open.ts';
import { verifyAudit } from '../../../../evidence/audit-log.ts';
import { isErrno, isExhibitError } from '../../../../evidence/error.ts';
import { aCapture, anEntry, aRequest } from '../../../contract/store-rows.ts';

const [, , folder = ''] = process.argv;
const file = path.join(folder, 'controller.db');
const store = await openStore({ url: `sqlite:${file}` }, { log: pino({ level: 'silent' }), now: Date.now });

/** Half a MiB each: more than any room that is left. */
const large = () => {
  const capture = aCapture({ reason: 'x'.repeat(2 ** 19) });
  return { capture, request: aRequest([aCapture(), capture]), audit: [anEntry({ captureId: capture.captureId })] };
};

function fill(): string {
  const filler = path.join(folder, 'filler');
  const descriptor = openSync(filler, 'w');
  for (let sizeBytes = 2 ** 20; sizeBytes >= 512; ) {
    try {
      if (writeSync(descriptor, Buffer.alloc(sizeBytes)) < sizeBytes) sizeBytes /= 2;
    } catch (error) {
      if (!isErrno(error, 'ENOSPC')) throw error;
      sizeBytes /= 2;
    }
  }
  closeSync(descriptor);
  return filler;
}

async function tryOne({ request, audit, capture }: ReturnType<typeof large>) {
  try {
    await store.addCaptures(request, audit);
    return { captureId: capture.captureId, requestId: request.requestId, error: '', code: '' };
  } catch (error) {
    const code = isExhibitError(error) ? error.code : 'none';
    return { captureId: capture.captureId, requestId: request.requestId, error: String(error), code };
  }
}

const before = await tryOne(large());
const filler = fill();
const full = await Promise.all(Array.from({ length: 6 }, () => tryOne(large())));
const small = aCapture();
await store.addCaptures(aRequest([small]), []).catch(() => undefined);
const rowsOfFailed = [];
for (const { requestId } of full.filter(({ code }) => code !== ''))
  rowsOfFailed.push(...(await store.captures({ requestId }, { limit: 5 })).rows);
rmSync(filler);
const after = await tryOne(large());
const audit = await store.audit({}, { afterSeq: 0, limit: 100 });
const kept = [];
for (const one of [before, ...full, after])
  if (one.code === '') kept.push((await store.capture(one.captureId))?.captureId === one.captureId);
await store[Symbol.asyncDispose]();
const database = new DatabaseSync(file);
const integrity = database.prepare('pragma integrity_check').get()?.integrity_check;
database.close();
const verdict = {
  before,
  full,
  after,
  rowsOfFailed: rowsOfFailed.length,
  kept,
  entries: audit.length,
  problems: verifyAudit(audit).problems,
  integrity,
};
process.stdout.write(JSON.stringify(verdict));
