import type { Change } from '../../evidence/inventory.ts';
import type { Entry, StoredAs, Verdict } from './rootfs-store.ts';

/** Entries between two reports of progress. */
const REPORT_EVERY = 1000;

/** Numbers for the artifact's facts. */
export class Tally {
  entries = 0;
  members = 0;
  whiteouts = 0;
  opaqueDirectories = 0;
  hardlinks = 0;
  sockets = 0;
  sparseFiles = 0;
  escapedNames = 0;
  changedWhileRead = 0;
  /** Entries whose owner is nobody in the container's user namespace. */
  unmappedOwners = 0;
  /** Directories whose access time listing may have updated. */
  directoriesTouched = 0;
  readonly changes: Partial<Record<Change, number>> = {};
  #reported = 0;

  count(entry: Entry, as: StoredAs, { change, content, mark }: Verdict): void {
    if (as.kind === 'member') this.members += 1;
    if (mark === true) return;
    this.entries += 1;
    if (as.kind === 'member' && as.hardlinkTo !== undefined) this.hardlinks += 1;
    if (entry.node.kind === 'socket') this.sockets += 1;
    if (content?.sparse !== undefined) this.sparseFiles += 1;
    if (content?.outcome.changed === true) this.changedWhileRead += 1;
    if (change !== undefined) this.changes[change] = (this.changes[change] ?? 0) + 1;
  }

  /** True when it is time to report progress. */
  due(): boolean {
    if (this.entries - this.#reported < REPORT_EVERY) return false;
    this.#reported = this.entries;
    return true;
  }
}
