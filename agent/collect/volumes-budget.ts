import type { NotStored } from '../../evidence/volumes.ts';

/** What may be stored of one mount, decided from the sizes of its files: small ones first. Pure. */

/** Sizes are counted by powers of two; no file is larger than 2^63 bytes. */
const CLASSES = 64;

const classOf = (bytes: number): number => (bytes <= 1 ? 0 : Math.ceil(Math.log2(bytes)));

/** How many bytes files of about one size have in all. */
export class SizeSurvey {
  readonly #bytes = new Array<number>(CLASSES).fill(0);

  add(bytes: number): void {
    const at = Math.min(classOf(bytes), CLASSES - 1);
    this.#bytes[at] = (this.#bytes[at] ?? 0) + bytes;
  }

  /** The bytes of the smallest files that fit together into `budgetBytes`, and up to which size these are. */
  smallest(budgetBytes: number): { readonly upToBytes: number; readonly bytes: number } {
    let bytes = 0;
    for (const [at, more] of this.#bytes.entries()) {
      if (bytes + more > budgetBytes) return { upToBytes: at === 0 ? 0 : 2 ** (at - 1), bytes };
      bytes += more;
    }
    return { upToBytes: Number.POSITIVE_INFINITY, bytes };
  }
}

export interface BudgetLimits {
  readonly fileBytes: number;
}

/** What is left for all mounts. One mount after the other takes from it. */
export class VolumesBudget {
  leftBytes: number;

  constructor(bytes: number) {
    this.leftBytes = bytes;
  }

  /**
   * For one mount: small files are sure of their place (`survey`: of its files that are not too large by themselves),
   * larger ones get what these leave. Without a survey everything is known to fit, or first come first served.
   */
  of(limits: BudgetLimits, survey?: SizeSurvey): (bytes: number) => NotStored | undefined {
    const small = survey?.smallest(this.leftBytes);
    let reserved = small?.bytes ?? 0;
    return (bytes) => {
      if (bytes > limits.fileBytes) return 'file-size';
      const isSmall = small !== undefined && bytes <= small.upToBytes;
      const room = isSmall ? this.leftBytes : this.leftBytes - reserved;
      if (bytes > room) return 'budget';
      this.leftBytes -= bytes;
      if (isSmall) reserved = Math.max(0, reserved - bytes);
      return undefined;
    };
  }
}
