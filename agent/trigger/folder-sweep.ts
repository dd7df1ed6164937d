import { hasEnded, MAX_ANSWER_BYTES, readAnswer } from './folder-answer.ts';
import { ANSWER_SUFFIX, REASON_SUFFIX } from './folder-name.ts';
import type { FolderPlace } from './folder-place.ts';

/** Names that are looked at before others, a freeze among them, get their turn on the thread. */
const NAMES_A_TURN = 50;

/** Removes answered requests with their answers, some time after the end. What is no answer of ours is left alone. */
export async function sweepAnswers(
  place: FolderPlace,
  { now, keptMs, isBusy }: { now: number; keptMs: number; isBusy: (request: string) => boolean },
): Promise<void> {
  for (const [index, bytes] of (await place.names()).entries()) {
    if (index % NAMES_A_TURN === NAMES_A_TURN - 1) await new Promise((resolve) => setImmediate(resolve));
    const name = bytes.toString('utf8');
    if (!name.endsWith(ANSWER_SUFFIX) || name.startsWith('.')) continue;
    const content = place.read(name, MAX_ANSWER_BYTES);
    const answer = content === undefined ? undefined : readAnswer(content);
    const request = name.slice(0, -ANSWER_SUFFIX.length);
    if (answer === undefined || !hasEnded(answer) || answer.request.name !== request || isBusy(request)) continue;
    if (now - Date.parse(answer.answeredAt) < keptMs) continue;
    // The request first: without its answer it would be another request.
    if (place.isOf(request, answer.request)) await place.remove(Buffer.from(request));
    await place.remove(bytes);
  }
}

/** Removes what is older than `keptMs`, and the oldest beyond `kept` requests. */
export async function sweepRejected(
  place: FolderPlace,
  { now, kept, keptMs }: { now: number; kept: number; keptMs: number },
): Promise<void> {
  const found = await place.rejected();
  const isReason = (name: Buffer) => name.toString('latin1').endsWith(REASON_SUFFIX);
  const reasons = found.filter(({ name }) => isReason(name));
  const surplus = new Set(
    reasons.slice(0, Math.max(0, reasons.length - kept)).map(({ name }) => name.toString('latin1')),
  );
  for (const { name, atMs } of found) {
    const reason = isReason(name) ? name.toString('latin1') : `${name.toString('latin1')}${REASON_SUFFIX}`;
    if (surplus.has(reason) || now - atMs > keptMs) await place.removeRejected(name);
  }
}
