import type { Gap } from '../../evidence/manifest.ts';
import type { CollectContext } from './collector.ts';

/** Gaps told one by one for each volume; a hostile tree could make any number of them. */
const GAPS_EACH = 100;

/** A volume's gaps: the first one by one, the rest as one that counts them. The inventory has each with its entry. */
export class VolumeGaps {
  count = 0;
  readonly #context: Pick<CollectContext, 'gap'>;
  readonly #what: string;

  constructor(context: Pick<CollectContext, 'gap'>, what: string) {
    this.#context = context;
    this.#what = what;
  }

  gap(gap: Omit<Gap, 'at'>): void {
    this.count += 1;
    if (this.count <= GAPS_EACH) this.#context.gap(gap);
  }

  end(): void {
    if (this.count <= GAPS_EACH) return;
    this.#context.gap({
      what: this.#what,
      why: `${this.count - GAPS_EACH} more gaps of this volume are not told one by one`,
    });
  }
}
