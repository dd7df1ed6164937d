import type { FindingKind } from '../../evidence/file-finding.ts';
import type { LowerLayers } from '../host/lower.ts';
import type { CollectContext, TextObject } from './collector.ts';
import { HeldFindings } from './finding-held.ts';
import { type FindingExtras, type FindingLine, findingLine } from './finding-record.ts';
import type { Judgement, Subject } from './finding-subject.ts';
import { mayBeUnpacked } from './finding-times.ts';
import { searchImage } from './rootfs-image-search.ts';

/**
 * Where judgements become lines of an object whose name ends in FINDINGS_SUFFIX: at once, or at the end for those that only
 * the whole can judge. For any artifact that has files.
 */
export class FindingLog {
  readonly counts: Partial<Record<FindingKind, number>> = {};
  readonly #output: Pick<TextObject, 'line'>;
  readonly #held = new HeldFindings();
  readonly #keeps: (line: FindingLine) => boolean;

  /** `keeps` has the last word on what is written. */
  constructor(output: Pick<TextObject, 'line'>, keeps: (line: FindingLine) => boolean = () => true) {
    this.#output = output;
    this.#keeps = keeps;
  }

  async say(one: Judgement, subject: Subject, extras: FindingExtras): Promise<void> {
    const line = findingLine(one, subject, extras);
    if (one.kind === 'executable-not-in-image') {
      return this.#line(this.#held.suspect(line, subject.sizeBytes, subject.sha256));
    }
    return this.#line(mayBeUnpacked(one) ? this.#held.older(line, subject) : line);
  }

  /**
   * Judges what had to wait and writes it. `layers` are searched for the contents of executables; without them nothing is
   * said not to be in the image. Throws only when the signal or the output does.
   */
  async finish(
    layers: LowerLayers | undefined,
    context: Pick<CollectContext, 'fact' | 'note' | 'read' | 'signal'>,
  ): Promise<void> {
    const { wanted } = this.#held;
    const isNeeded = wanted.length > 0 && layers !== undefined;
    const { found, incomplete } = isNeeded
      ? await searchImage(layers, wanted, context)
      : { found: new Map<string, bigint>(), incomplete: layers === undefined ? 'its layers were not read' : undefined };
    for (const line of this.#held.resolve({ found, incomplete })) await this.#line(line);
    if (incomplete !== undefined && wanted.length > 0) {
      context.note(
        `whether the image has the content of executables was not told for all of them: ${incomplete}; see image-not-searched in the findings`,
      );
    }
    context.fact('findings', { ...this.counts });
  }

  async #line(line: FindingLine | undefined): Promise<void> {
    if (line?.kind === undefined || !this.#keeps(line)) return;
    this.counts[line.kind] = (this.counts[line.kind] ?? 0) + 1;
    await this.#output.line(JSON.stringify(line));
  }
}
