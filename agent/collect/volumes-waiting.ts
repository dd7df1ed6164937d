import { explain } from '../../evidence/error.ts';
import type { Gap } from '../../evidence/manifest.ts';
import { childLines } from '../host/bounded-child.ts';
import type { Host } from '../host/host.ts';
import { StalledError } from '../host/procfs-reader.ts';
import type { CollectContext } from './collector.ts';
import type { Outputs } from './rootfs-store.ts';
import { shown, type VolumeOutcome } from './volumes-capture.ts';
import type { Volume } from './volumes-find.ts';

/** A mount of a file system that may wait, taken by a process that can be killed: volumes-waiting-child.ts. */

/** What the process is told, as JSON in its only argument. */
export interface WaitingOrder {
  readonly host: Host;
  readonly pid: number;
  readonly namespace: string;
  readonly mountId: number;
  readonly number: number;
  readonly entries: number;
}

/** What it answers, one JSON value a line. */
export type WaitingLine =
  | { readonly inventory: string }
  | { readonly body: string }
  | { readonly gap: Omit<Gap, 'at'> }
  | { readonly end: VolumeOutcome };

/** An NFS server that needs longer for one answer is taken for one that hangs. */
const PATIENCE_MS = 5000;
/** Of one mount; there may be several, and other artifacts wait. */
const TOTAL_MS = 60_000;

const PROGRAM = new URL('./volumes-waiting-child.ts', import.meta.url);

/** Names and metadata as far as they came. Undefined when the end did not: then a gap says why. */
export async function captureWaiting(
  context: CollectContext,
  { space, mount, number, decision, classified }: Volume,
  outputs: Outputs,
): Promise<VolumeOutcome | undefined> {
  const { host, signal } = context;
  const { pid, namespace } = space;
  const order: WaitingOrder = { host, pid, namespace, mountId: mount.id, number, entries: decision.entries };
  const limits = { patienceMs: PATIENCE_MS, totalMs: TOTAL_MS, signal };
  try {
    for await (const text of childLines(PROGRAM, [JSON.stringify(order)], limits)) {
      // Our own process wrote it, from what the file system said; a line is a line whatever names it holds.
      const line = JSON.parse(text) as WaitingLine;
      if ('inventory' in line) await outputs.inventory.line(line.inventory);
      else if ('body' in line) await outputs.body.line(line.body);
      else if ('gap' in line) context.gap(line.gap);
      else return line.end;
    }
    return undefined;
  } catch (error) {
    signal.throwIfAborted();
    const stalled = error instanceof StalledError;
    if (!stalled && !(error instanceof Error && error.message.startsWith('the process'))) throw error;
    const what = `mount ${mount.id} (${classified.class}, ${mount.type})`;
    const why = stalled
      ? `${what} does not answer: it was left, and what is listed of it is not complete`
      : `${what} was not read to its end: ${explain(error)}`;
    context.gap({ what: shown({ mount }), why });
    return undefined;
  }
}
