import type { CustodyFacts } from './custody-record.ts';
import { sealRows } from './custody-seal.ts';
import { type Block, code, type Inline } from './document.ts';
import { describeFinding } from './finding-words.ts';

/** Findings that are printed; more are `verify`'s to tell. */
const MAX_FINDINGS = 100;
const MAX_CHAINS = 20;

/** Who vouches for the bundle, its place among the others, and what a check of it said just now. */
export function custodyResult(facts: CustodyFacts): Block[] {
  return [
    { kind: 'heading', text: 'Seal and chain' },
    { kind: 'fields', rows: [...sealRows(facts), ...chainRows(facts)] },
    { kind: 'heading', text: `Verification at ${facts.now.toISOString()}` },
    ...checkBlocks(facts),
  ];
}

function chainRows({ records, chain }: CustodyFacts): (readonly [string, Inline])[] {
  const link = records.manifest?.value.chain ?? records.seal?.statement.predicate.chain;
  const place: (readonly [string, Inline])[] =
    link === undefined
      ? [['Chain', 'the bundle names none']]
      : [
          ['Chain', code(`${link.chainId}, number ${link.sequence}`)],
          [
            'Capture before it',
            link.previous === undefined
              ? 'none: the chain begins here'
              : code(`${link.previous.captureId}, seal ${link.previous.sealSha256}`),
          ],
        ];
  if (chain === undefined) return [...place, ['Captures beside it', 'not looked at']];
  const own = chain.chains.find(({ chainId }) => chainId === link?.chainId);
  return [
    ...place,
    ...(own === undefined
      ? []
      : [
          [
            'Of its chain are there',
            code(`${own.captures}, numbers ${own.first.sequence} to ${own.newest.sequence}`),
          ] as const,
        ]),
    [
      'Captures beside it',
      `${chain.captures} looked at: ${chain.whole ? 'none is missing between those that are there' : 'not whole: see the findings'}`,
    ],
    ...chain.chains
      .slice(0, MAX_CHAINS)
      .map(
        ({ chainId, newest }) =>
          [
            'Newest there',
            code(`${newest.captureId}, number ${newest.sequence} of ${chainId}, seal ${newest.sealSha256}`),
          ] as const,
      ),
  ];
}

const CHECKED = {
  all: 'Checked: seal, records, custody log, every object to its last byte and member.',
  records: 'Checked: seal, request, manifest and custody log. The other objects were not read (--verify reads them).',
};
const CHECKED_LOCKED = {
  all: 'Checked: the seal, and every stored byte of every object that it names. What they hold is encrypted and was not checked.',
  records: 'Checked: the seal alone, against itself. The objects were not read (--verify reads their stored bytes).',
};

const BAD = 'NOT INTACT: the findings say what differs from what was sealed.';
const VERDICTS = {
  all: {
    good: 'INTACT: nothing differs from what was sealed.',
    'as-stored': 'INTACT AS STORED: every stored byte is what was sealed.',
    bad: BAD,
  },
  records: { good: 'The records are what was sealed.', 'as-stored': 'The seal is good.', bad: BAD },
};

function checkBlocks({ check, chain, locked }: CustodyFacts): Block[] {
  const looked = (locked ? CHECKED_LOCKED : CHECKED)[check.kind];
  const verdict = VERDICTS[check.kind][check.verdict];
  const findings = [...check.findings, ...(chain?.findings ?? [])];
  const shown = findings.slice(0, MAX_FINDINGS).map(describeFinding);
  const hidden = findings.length - shown.length;
  return [
    { kind: 'paragraph', text: looked },
    { kind: 'paragraph', text: verdict },
    ...titled('Findings', hidden > 0 ? [...shown, `${hidden} more, see exhibit verify`] : shown),
    ...titled('This proves', [...check.proves, ...(chain?.proves ?? [])]),
    ...titled('This does not prove', [...check.doesNotProve, ...(chain?.doesNotProve ?? [])]),
  ];
}

function titled(title: string, items: readonly string[]): Block[] {
  if (items.length === 0) return [];
  return [
    { kind: 'paragraph', text: `${title}:` },
    { kind: 'list', items },
  ];
}
