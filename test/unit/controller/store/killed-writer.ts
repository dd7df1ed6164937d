/** Writes to the store that is named, and says on stdout what has resolved, until it is killed. */
import { writeSync } from 'node:fs';
import { pino } from 'pino';
import { openStore } from '../../../../controller/store/open.ts';
import { aCapture, anEntry, aRequest } from '../../../contract/store-rows.ts';

const [, , url = ''] = process.argv;
const store = await openStore({ url }, { log: pino({ level: 'silent' }), now: Date.now });

async function writer(): Promise<never> {
  for (;;) {
    const capture = aCapture({ reason: 'x'.repeat(500) });
    const { captureId } = capture;
    await store.addCaptures(aRequest([capture, aCapture({ requestId: captureId })]), [anEntry({ captureId })]);
    writeSync(1, `queued ${captureId}\n`);
    await store.changeCapture(captureId, ['queued'], { state: 'sent' }, anEntry({ captureId, action: 'capture.sent' }));
    writeSync(1, `sent ${captureId}\n`);
  }
}

await Promise.all(Array.from({ length: 8 }, writer));
