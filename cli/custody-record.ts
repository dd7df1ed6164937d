import type { Finding } from '../evidence/findings.ts';
import { CUSTODY_OBJECT } from '../evidence/layout.ts';
import type { Manifest, RequestRecord } from '../evidence/manifest.ts';
import type { CheckedRecords } from '../evidence/verify.ts';
import type { ChainReport } from '../evidence/verify-chain.ts';
import { custodyResult } from './custody-result.ts';
import { type Block, code, type Document, type Inline } from './document.ts';
import { formatBytes, formatCount, formatDuration } from './print.ts';

/** What a custody record is made of: what a bundle says, and what a check of it said just now. */
export interface CustodyFacts extends CheckedRecords {
  readonly url: string;
  /** When this record was made, by whoever makes it. */
  readonly now: Date;
  /** Of the program that makes it. */
  readonly version: string;
  readonly sealSha256: string | undefined;
  /** An RFC 3161 answer lies beside the seal. */
  readonly hasTimestamp: boolean;
  readonly check: CustodyCheck;
  readonly chain: ChainReport | undefined;
  /** It is encrypted, and no identity opened it: seal and stored bytes are all that can be spoken of. */
  readonly locked: boolean;
}

export interface CustodyCheck {
  /** `records`: seal, request, manifest and custody log. `all`: every object as well. */
  readonly kind: 'records' | 'all';
  /** `as-stored`: no error was found, and what the objects hold was not read. */
  readonly verdict: 'good' | 'as-stored' | 'bad';
  readonly findings: readonly Finding[];
  readonly proves: readonly string[];
  readonly doesNotProve: readonly string[];
}

/** Rows of one table that are printed; the rest is counted. */
const MAX_ROWS = 500;
/** Hand-overs of one sheet. */
const FORM_ROWS = 6;
const NOT_GIVEN = 'not given';

/** The human record of one capture. Pure; what cannot be read is missing, and the result of the check says why. */
export function custodyRecord(facts: CustodyFacts): Document {
  const manifest = facts.records.manifest?.value;
  const request = facts.records.request?.value;
  return {
    title: 'Custody record of digital evidence',
    blocks: [
      ...(facts.locked ? [{ kind: 'paragraph', text: LOCKED } as const] : []),
      ...identity(facts, request, manifest),
      ...(request === undefined ? [] : place(request)),
      ...(facts.locked ? [] : times(facts, request, manifest)),
      ...tools(facts, request),
      ...(facts.locked ? sealedObjects(facts) : actions(facts)),
      ...(manifest === undefined
        ? []
        : [...artifacts(manifest), ...objects(manifest), ...gaps(manifest), ...footprint(manifest)]),
      ...custodyResult(facts),
      { kind: 'heading', text: 'Hand-over' },
      {
        kind: 'form',
        headings: [
          'Date, time, zone',
          'Released by (name, signature)',
          'Received by (name, signature)',
          'Purpose, place',
        ],
        rows: FORM_ROWS,
      },
    ],
  };
}

const LOCKED =
  'The bundle is encrypted, and no identity was given that opens it. This record has what its seal says; case, target, times, ' +
  'what was done, gaps and contents are inside, and an identity of a recipient (--identity) shows them.';

const given = (text: string | undefined): Inline => (text === undefined ? NOT_GIVEN : code(text));

function identity(facts: CustodyFacts, request: RequestRecord | undefined, manifest: Manifest | undefined): Block[] {
  const requester = request?.requester;
  const vouched = requester === undefined ? undefined : `${requester.identity} (${requester.trigger})`;
  if (facts.locked) {
    const captureId = facts.records.seal?.statement.predicate.captureId;
    return [
      {
        kind: 'fields',
        rows: [
          ['Capture', given(captureId)],
          ['Bundle', code(facts.url)],
        ],
      },
    ];
  }
  return [
    {
      kind: 'fields',
      rows: [
        ['Case', given(request?.caseId)],
        ['Exhibit number', given(request?.exhibitNumber)],
        ['Acquired by (as the requester claims)', given(request?.acquirer)],
        ['Requested by (as the agent saw it)', given(vouched)],
        ['Reason', given(request?.reason)],
        ['Capture', given((manifest ?? request)?.captureId)],
        ['Outcome', manifest === undefined ? 'the capture was not finished' : code(manifest.outcome)],
        ['Bundle', code(facts.url)],
        ...sinkRows(manifest),
      ],
    },
  ];
}

function sinkRows(manifest: Manifest | undefined): (readonly [string, Inline])[] {
  const sink = manifest?.sink;
  if (sink === undefined) return [];
  const lock = sink.objectLock;
  const until = lock?.retainUntil === undefined ? '' : ` until ${lock.retainUntil}`;
  const words = lock && `${lock.mode ?? 'no mode'}${until}, ${lock.legalHold ? 'legal hold' : 'no legal hold'}`;
  return [
    ['Stored in (as configured)', code(`${sink.name}: ${sink.url}`)],
    ...(sink.serverSideEncryption === undefined
      ? []
      : [['Encrypted at rest', code(sink.serverSideEncryption)] as const]),
    ...(words === undefined ? [] : [['Object Lock', code(words)] as const]),
  ];
}

function place({ target, selector, cluster, node, host, runtime }: RequestRecord): Block[] {
  const { pod, image, companions = [] } = target;
  return [
    { kind: 'heading', text: 'What was captured' },
    {
      kind: 'fields',
      rows: [
        ['Asked for', code(selector)],
        ['Target', code(`${target.kind} ${target.name} (${target.id})`)],
        ...companions.map(({ name, id }) => ['With it', code(`container ${name} (${id})`)] as const),
        ...(pod === undefined ? [] : [['Pod', code(`${pod.namespace}/${pod.name}, uid ${pod.uid}`)] as const]),
        ...(image === undefined ? [] : [['Image', code(`${image.name} (${image.id})`)] as const]),
        ['Processes', code(target.pids.join(', '))],
        ['Cluster, node', code(`${cluster}, ${node}`)],
        ['Host', code(`${host.hostname}, boot ${host.bootId}, up since ${host.bootTime}`)],
        ['Container runtime', code(`${runtime.name} ${runtime.version}`)],
      ],
    },
  ];
}

function times(facts: CustodyFacts, request: RequestRecord | undefined, manifest: Manifest | undefined): Block[] {
  const clock = request?.host.clock;
  const error = clock?.estimatedErrorUs === undefined ? '' : `, estimated error ${clock.estimatedErrorUs} µs`;
  const state = clock?.synchronised === undefined ? 'not known' : clock.synchronised ? 'yes' : 'no';
  const compared = (facts.custody?.clocks ?? []).map(
    ({ source, offsetMs, uncertaintyMs, at }) =>
      `${source}: add ${offsetMs} ms (± ${uncertaintyMs}), compared at ${at}`,
  );
  const freeze = manifest?.freeze;
  return [
    { kind: 'heading', text: 'When (UTC, by the clock of the node)' },
    {
      kind: 'fields',
      rows: [
        ['Requested', given(request?.requestedAt)],
        ['Started', given(manifest?.startedAt)],
        ['Stopped (frozen)', given(freeze?.frozenAt)],
        ['Running again', given(freeze?.thawedAt)],
        ['Finished', given(manifest?.finishedAt)],
        ['Time zone of the node', given(clock?.timezone)],
        ['Clock synchronised, says the kernel', code(`${state}${error}`)],
        ...(compared.length === 0 ? [['Compared with other clocks', 'no'] as const] : []),
        ...compared.slice(0, MAX_ROWS).map((text) => ['To have the time of another clock', code(text)] as const),
      ],
    },
  ];
}

function tools({ now, version, records }: CustodyFacts, request: RequestRecord | undefined): Block[] {
  const agent = request?.agent ?? records.seal?.statement.predicate.agent;
  return [
    { kind: 'heading', text: 'Tools' },
    {
      kind: 'fields',
      rows: [
        ['Agent', given(agent && `${agent.name} ${agent.version}, pid ${agent.pid}`)],
        ['Node.js', given(agent?.nodeVersion)],
        ['Kernel', given(request && `${request.host.kernel} ${request.host.machine}`)],
        ['This record', code(`exhibit ${version}, made at ${now.toISOString()}`)],
      ],
    },
  ];
}

function actions({ custody }: CustodyFacts): Block[] {
  const heading = { kind: 'heading', text: 'What was done' } as const;
  if (custody === undefined)
    return [heading, { kind: 'paragraph', text: `The bundle has no ${CUSTODY_OBJECT} that can be read.` }];
  const rows = custody.events.map(({ sequence, at, event, by, what }) => [
    code(sequence),
    code(at),
    code(event),
    code(by),
    what,
  ]);
  return [heading, ...table(['No.', 'Time', 'Event', 'By', 'What'], rows)];
}

function artifacts({ artifacts: all }: Manifest): Block[] {
  const rows = all.map(({ name, status, reason, objects: names, gapCount }) => [
    code(name),
    code(status),
    code(gapCount),
    code(names.join(', ')),
    reason ?? '',
  ]);
  return [{ kind: 'heading', text: 'Artifacts' }, ...table(['Artifact', 'Status', 'Gaps', 'Objects', 'Reason'], rows)];
}

function objects({ objects: all }: Manifest): Block[] {
  const rows = all.map(({ name, stored, encryption, truncated }) => [
    code(name),
    code(stored.sizeBytes),
    code(stored.sha256),
    [
      encryption === undefined ? '' : `encrypted (${encryption})`,
      truncated === undefined ? '' : `first part only: ${truncated}`,
    ]
      .filter((note) => note !== '')
      .join('; '),
  ]);
  return [
    { kind: 'heading', text: 'Objects as stored' },
    {
      kind: 'paragraph',
      text: 'All that the manifest lists: every object of the bundle but the manifest itself and its seal.',
    },
    ...table(['Object', 'Bytes', 'SHA-256', 'Note'], rows),
  ];
}

/** Of a bundle that was not opened: what the seal names, under the names in the sink. */
function sealedObjects({ records }: CustodyFacts): Block[] {
  const subjects = records.seal?.statement.subject ?? [];
  const rows = subjects.map(({ name, digest }) => [code(name), code(digest.sha256)]);
  return [{ kind: 'heading', text: 'Objects as sealed' }, ...table(['Object', 'SHA-256'], rows)];
}

function gaps({ artifacts: all }: Manifest): Block[] {
  const count = all.reduce((sum, { gapCount }) => sum + gapCount, 0);
  const rows = all.flatMap(({ name, gaps: own }) =>
    own.map(({ what, why, at }) => [code(name), code(what), why, code(at)]),
  );
  const heading = { kind: 'heading', text: 'Not captured' } as const;
  if (count === 0) return [heading, { kind: 'paragraph', text: 'The manifest lists no gap.' }];
  return [heading, ...table(['Artifact', 'What', 'Why', 'When'], rows, count)];
}

function footprint({ artifacts: all, freeze, nodeBytesWritten }: Manifest): Block[] {
  const rows = all.map(({ name, footprint: f }) => [
    code(name),
    ...[f.wallMs, f.cpuMs, f.pauseMs].map((ms) => code(formatDuration(ms))),
    code(formatBytes(f.bytesRead)),
    code(formatBytes(f.bytesStored)),
    code(f.filesOpened),
  ]);
  const stopped =
    freeze.consistency === 'frozen'
      ? `stopped by ${freeze.method}`
      : `not stopped, read while it ran (${freeze.method})`;
  return [
    { kind: 'heading', text: 'What the acquisition did to the node' },
    {
      kind: 'paragraph',
      text: `The target was ${stopped}; it stood still for ${freeze.pauseMs.toFixed(1)} ms in all.`,
    },
    {
      kind: 'paragraph',
      text: `The agent wrote ${formatBytes(nodeBytesWritten)} to block devices of the node during the capture.`,
    },
    ...(freeze.notes.length === 0 ? [] : [{ kind: 'list', items: freeze.notes.slice(0, MAX_ROWS) } as const]),
    ...table(['Artifact', 'Took', 'CPU', 'Pause', 'Read', 'Stored', 'Files opened'], rows),
  ];
}

function table(headings: readonly string[], rows: readonly (readonly Inline[])[], count = rows.length): Block[] {
  const shown = rows.slice(0, MAX_ROWS);
  const more = count - shown.length;
  return [
    { kind: 'table', headings, rows: shown },
    ...(more <= 0
      ? []
      : [{ kind: 'paragraph', text: `${formatCount(more, 'more row')} in the bundle itself.` } as const]),
  ];
}
