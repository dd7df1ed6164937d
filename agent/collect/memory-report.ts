import type { CollectContext } from './collector.ts';
import type { CopyBuffer } from './memory-buffer.ts';
import type { ProcessPicture, RegionCapture } from './memory-picture.ts';
import { capturedOf, hex, sortedGaps } from './memory-store.ts';

/** Tells the manifest what the cores lack and how they were read. The details of every mapping are in regions.jsonl. */

/** Gaps and notes of one process, after its core was stored. */
export function reportProcess(context: CollectContext, picture: ProcessPicture): void {
  const { pid } = picture.survey;
  for (const region of picture.regions) reportRegion(context, pid, region);
  for (const why of picture.gaps) context.gap({ what: `memory of pid ${pid}`, pid, why });
  for (const note of picture.notes) context.note(`pid ${pid}: ${note}`);
  const live = picture.regions.map((region) => capturedOf(region).liveBytes).filter((bytes) => bytes > 0);
  if (live.length > 0 && context.consistency === 'frozen') {
    const bytes = live.reduce((sum, each) => sum + each, 0);
    context.note(
      `pid ${pid}: ${bytes} bytes in ${live.length} mappings were read while it ran; regions.jsonl says which`,
    );
  }
  const lost = picture.threads.filter(({ position }) => position?.kind !== 'stopped').length;
  if (lost > 0)
    context.note(`pid ${pid}: ${lost} of ${picture.threads.length} threads were running or ended: no registers`);
}

function reportRegion(context: CollectContext, pid: number, region: RegionCapture): void {
  const { vma, decision } = region.plan;
  const what = `memory of pid ${pid}`;
  if (decision.kind === 'skip' && decision.isGap) {
    const range = { startAddress: hex(vma.start), endAddress: hex(vma.end) };
    context.gap({ what, pid, ...range, why: decision.why });
  }
  for (const { start, end, errno, why } of sortedGaps(region)) {
    const range = { startAddress: hex(start), endAddress: hex(end) };
    context.gap({ what, pid, ...range, why, ...(errno === undefined ? {} : { errno }) });
  }
}

/** Facts and notes of the artifact as a whole. */
export function reportPictures(context: CollectContext, pictures: readonly ProcessPicture[], buffer: CopyBuffer): void {
  const regions = pictures.flatMap((picture) => picture.regions);
  const sum = (of: (region: RegionCapture) => number): number => regions.reduce((total, each) => total + of(each), 0);
  context.fact('processes', pictures.length);
  context.fact('mappings', regions.length);
  context.fact(
    'residentBytes',
    sum(({ plan }) => plan.residentBytes),
  );
  context.fact(
    'swappedBytes',
    sum(({ plan }) => plan.swappedBytes),
  );
  context.fact(
    'zeroBytes',
    sum(({ plan }) => plan.zeroBytes),
  );
  context.fact(
    'modifiedFileBytes',
    sum(({ plan }) => plan.modifiedBytes),
  );
  context.fact(
    'capturedBytes',
    sum((region) => capturedOf(region).capturedBytes),
  );
  context.fact(
    'liveBytes',
    sum((region) => capturedOf(region).liveBytes),
  );
  context.fact('bufferBytes', buffer.limitBytes);
  context.fact('bufferedBytes', buffer.writtenBytes);
  if (pictures.length === 0) return;
  context.note(
    'registers are partial: program counter, stack pointer and system call of each thread, from /proc/PID/task/TID/syscall; the others are zero',
  );
}
