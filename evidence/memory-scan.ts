import type { WalkedProcess } from './memory-walk.ts';
import { type MemoryWindow, memoryWindows, type WindowOptions } from './memory-windows.ts';
import type { RuleEngine, RuleMatch } from './yara.ts';

/** A rule that matches somewhere in a window of a process' memory. */
export interface MemoryMatch {
  readonly pid: number;
  readonly namespace: string;
  readonly rule: string;
  readonly tags: readonly string[];
  /** The memory that the rule's condition was asked of. */
  readonly window: { readonly start: bigint; readonly sizeBytes: number };
  /** Empty for a rule whose condition needs none. */
  readonly strings: readonly StringMatch[];
}

export interface StringMatch {
  readonly id: string;
  readonly address: bigint;
  readonly sizeBytes: number;
  /** The beginning of what matched, at most SHOWN_BYTES. */
  readonly bytes: Uint8Array;
}

export const SHOWN_BYTES = 64;

/** Everything that the rules find in a process, window by window; what two windows hold is told once. */
export async function* scanProcess(
  engine: RuleEngine,
  process: WalkedProcess,
  options: WindowOptions,
): AsyncGenerator<MemoryMatch> {
  /** Matches in the end of the window before, which the next one repeats. */
  let told = new Set<string>();
  for await (const window of memoryWindows(process.parts(), options)) {
    const before = window.overlapBytes > 0 ? told : new Set<string>();
    told = new Set();
    for (const match of engine.scan(window.bytes)) {
      const strings = newStrings(window, match, before, told, options.overlapBytes);
      if (strings === undefined) continue;
      const { namespace, rule, tags } = match;
      const where = { start: window.start, sizeBytes: window.bytes.length };
      yield { pid: process.pid, namespace, rule, tags, window: where, strings };
    }
  }
}

/** Undefined when all that matched was told for the window before. */
function newStrings(
  window: MemoryWindow,
  match: RuleMatch,
  before: ReadonlySet<string>,
  told: Set<string>,
  overlapBytes: number,
): StringMatch[] | undefined {
  const strings: StringMatch[] = [];
  let known = 0;
  const repeatedFrom = window.bytes.length - overlapBytes;
  for (const { id, matches } of match.patterns) {
    for (const { offset, length } of matches) {
      const address = window.start + BigInt(offset);
      const key = `${match.namespace}\0${match.rule}\0${id}\0${address}`;
      if (offset >= repeatedFrom) told.add(key);
      if (before.has(key)) known += 1;
      else
        strings.push({
          id,
          address,
          sizeBytes: length,
          bytes: window.bytes.slice(offset, offset + Math.min(length, SHOWN_BYTES)),
        });
    }
  }
  return strings.length === 0 && known > 0 ? undefined : strings;
}
