import { isDeepStrictEqual } from 'node:util';
import type { Findings } from './findings.ts';
import type { ChainLink } from './manifest.ts';
import type { ChainedCapture, ChainPlace, ChainSummary } from './verify-chain.ts';

/** The link in a seal and the one in its manifest. */
export function isSameLink(one: ChainLink | undefined, other: ChainLink | undefined): boolean {
  return isDeepStrictEqual(one, other);
}

/** Judges captures as the links of chains. Pure but for `findings`; numbers in the records are never counted up to. */
export function judgeChains(captures: readonly ChainedCapture[], findings: Findings): ChainSummary[] {
  const byChain = Map.groupBy(captures, ({ chain }) => chain.chainId);
  return [...byChain].map(([chainId, links]) => judgeChain(chainId, links, findings));
}

function judgeChain(chainId: string, captures: readonly ChainedCapture[], findings: Findings): ChainSummary {
  const sorted = captures.toSorted((a, b) => a.chain.sequence - b.chain.sequence);
  const bySequence = Map.groupBy(sorted, ({ chain }) => chain.sequence);
  for (const [index, link] of sorted.entries()) {
    judgeLink(link, sorted[index - 1], findings);
    judgeParent(link, bySequence.get(link.chain.sequence - 1) ?? [], findings);
  }
  const [first] = sorted;
  const newest = sorted.at(-1);
  if (first === undefined || newest === undefined) throw new RangeError('a chain has a capture');
  const message = `chain ${chainId} begins with capture ${first.captureId}${startWords(first)}`;
  if (first.chain.sequence === 1) findings.add('info', 'chain-begins', message, { object: first.captureId });
  return { chainId, captures: sorted.length, first: placeOf(first), newest: placeOf(newest) };
}

function placeOf({ captureId, chain, sealSha256, startedAt, startedAtFrom }: ChainedCapture): ChainPlace {
  const started = startedAt === undefined ? {} : { startedAt, ...(startedAtFrom && { startedAtFrom }) };
  return { captureId, sequence: chain.sequence, sealSha256, ...started };
}

function startWords({ startedAt, startedAtFrom }: ChainedCapture): string {
  if (startedAt === undefined) return '';
  return startedAtFrom === 'capture-id' ? `, begun at ${startedAt} by its id` : `, started at ${startedAt}`;
}

/** One link and the one that is here before it, whatever its number. */
function judgeLink(link: ChainedCapture, before: ChainedCapture | undefined, findings: Findings): void {
  const { captureId, chain } = link;
  const { chainId, sequence, previous } = chain;
  const broken = (message: string) => findings.add('error', 'chain-broken', message, { object: captureId });
  if (before !== undefined && before.chain.sequence === sequence) {
    const message = `captures ${before.captureId} and ${captureId} are both number ${sequence} of chain ${chainId}`;
    findings.add('error', 'chain-fork', message, { object: captureId });
  }
  if (sequence === 1 && previous !== undefined) {
    broken(`capture ${captureId} is the first of chain ${chainId}, and yet names ${previous.captureId} before it`);
  }
  if (sequence > 1 && previous === undefined) {
    broken(`capture ${captureId} is number ${sequence} of chain ${chainId}, and names none before it`);
  }
  const here = before?.chain.sequence ?? 0;
  if (here < sequence - 1) findings.add('error', 'chain-hole', holeWords(link, before), { object: captureId });
}

/** One link and those with the number before it; where a chain forks there are two. */
function judgeParent(
  { captureId, chain }: ChainedCapture,
  parents: readonly ChainedCapture[],
  findings: Findings,
): void {
  const { chainId, sequence, previous } = chain;
  const broken = (message: string) => findings.add('error', 'chain-broken', message, { object: captureId });
  const [some] = parents;
  if (some === undefined || previous === undefined) return;
  const parent = parents.find((one) => one.captureId === previous.captureId);
  if (parent === undefined) {
    broken(
      `capture ${captureId} follows ${previous.captureId}; number ${sequence - 1} of chain ${chainId} is ${some.captureId}`,
    );
  } else if (previous.sealSha256 !== parent.sealSha256) {
    broken(`the seal of capture ${parent.captureId} is not the one that capture ${captureId} names: it was made again`);
  }
}

/** `capture 7 of chain X (ID), between A and B, is not here`. */
function holeWords({ captureId, chain }: ChainedCapture, before: ChainedCapture | undefined): string {
  const from = (before?.chain.sequence ?? 0) + 1;
  const to = chain.sequence - 1;
  const which = from === to ? `capture ${to}` : `captures ${from} to ${to}`;
  const name = chain.previous === undefined ? '' : `${from === to ? '' : 'the last is '}${chain.previous.captureId}`;
  const place = before === undefined ? `before ${captureId}` : `between ${before.captureId} and ${captureId}`;
  const verb = from === to ? 'is' : 'are';
  return `${which} of chain ${chain.chainId}${name === '' ? '' : ` (${name})`}, ${place}, ${verb} not here`;
}
