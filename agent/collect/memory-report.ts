import type { CollectContext } from './collector.ts';
import type { ProcessPicture, Region } from './memory-picture.ts';
import { LEFT_OUT } from './memory-plan.ts';
import type { SharedObject } from './memory-shared.ts';
import { capturedOf, sortedGaps } from './memory-store.ts';
import { hex } from './memory-words.ts';

/** Tells the manifest what the cores lack and how they were read. The details of every mapping are in regions.jsonl. */

/** Gaps and notes of one process, after its core was stored. */
export function reportProcess(context: CollectContext, picture: ProcessPicture): void {
  const { pid } = picture.survey;
  for (const region of picture.regions) reportRegion(context, pid, region);
  for (const why of picture.gaps) context.gap({ what: `memory of pid ${pid}`, pid, why });
  const live = picture.regions.map((region) => capturedOf(region).liveBytes).filter((bytes) => bytes > 0);
  if (live.length > 0 && context.consistency === 'frozen') {
    const bytes = live.reduce((sum, each) => sum + each, 0);
    context.note(
      `pid ${pid}: ${bytes} bytes in ${live.length} mappings were read while it ran; regions.jsonl says which`,
    );
  }
}

function reportRegion(context: CollectContext, pid: number, region: Region): void {
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
export function reportPictures(
  context: CollectContext,
  pictures: readonly ProcessPicture[],
  objects: readonly SharedObject[],
): void {
  const regions = pictures.flatMap((picture) => picture.regions);
  const sum = (of: (region: Region) => number): number => regions.reduce((total, each) => total + of(each), 0);
  const shared = objects.map(capturedOf);
  const sharedBytes = shared.reduce((total, each) => total + each.capturedBytes, 0);
  const referred = sum(({ elsewhere }) => {
    const own = elsewhere.filter(({ member }) => !member.startsWith('shared/'));
    return own.reduce((total, { start, end }) => total + Number(end - start), 0);
  });
  const facts = {
    processes: pictures.length,
    mappings: regions.length,
    residentBytes: sum(({ plan }) => plan.residentBytes),
    swappedBytes: sum(({ plan }) => plan.swappedBytes),
    zeroBytes: sum(({ plan }) => plan.zeroBytes),
    modifiedFileBytes: sum(({ plan }) => plan.modifiedBytes),
    capturedBytes: sum((region) => capturedOf(region).capturedBytes) + sharedBytes + referred,
    liveBytes:
      sum((region) => capturedOf(region).liveBytes) + shared.reduce((total, each) => total + each.liveBytes, 0),
    sharedObjects: objects.length,
    sharedBytes,
    preCopiedBytes: referred,
  };
  for (const [name, value] of Object.entries(facts)) context.fact(name, value);
  const leftOut = sum(({ plan }) => (plan.decision.kind === 'skip' && plan.decision.why === LEFT_OUT ? 1 : 0));
  if (leftOut > 0) context.note(`memory.include: ${leftOut} mappings were left out; regions.jsonl says which`);
  for (const { gaps, number } of objects) {
    for (const { start, end, errno, why } of gaps) {
      const what = `shared/${number}.pages, offsets ${hex(start)} to ${hex(end)}`;
      context.gap({ what, why, ...(errno === undefined ? {} : { errno }) });
    }
  }
}

/** How much of the threads' registers is known. */
export function reportThreads(
  context: CollectContext,
  pictures: readonly ProcessPicture[],
  full: ReadonlyMap<number, unknown>,
  why: string | undefined,
): void {
  const threads = pictures.flatMap((picture) => picture.threads);
  const rest = threads.filter(({ tid }) => !full.has(tid));
  const partial = rest.filter(({ position }) => position?.kind === 'stopped').length;
  context.fact('threads', { all: threads.length, full: threads.length - rest.length, partial });
  if (rest.length === 0) return;
  const because = why === undefined ? '' : ` (${why})`;
  if (partial > 0) {
    context.note(
      `registers of ${partial} of ${threads.length} threads are partial${because}: program counter, stack pointer and system call, from /proc/PID/task/TID/syscall; the others are zero`,
    );
  }
  const none = rest.length - partial;
  if (none > 0) context.note(`${none} of ${threads.length} threads were running or ended: no registers`);
}
