import { TIMESTAMP_OBJECT } from '../evidence/layout.ts';
import type { JudgedSigner } from '../evidence/verify-signers.ts';
import { expectsTimestamp, type JudgedTimestamp } from '../evidence/verify-timestamp.ts';
import type { CustodyFacts } from './custody-record.ts';
import { code, type Inline } from './document.ts';

type Row = readonly [string, Inline];

/** Who signed, who was to, and when an authority says that it was: each with what the reader's trust root makes of it. */
export function sealRows({ records, sealSha256, hasTimestamp }: CustodyFacts): Row[] {
  const { seal, signers, timestamp } = records;
  if (seal === undefined) return [['Signed by', 'nobody: there is no good seal']];
  const { missing = [] } = seal.statement.predicate;
  return [
    ...signers.flatMap(signerRows),
    ...missing.map((one): Row => {
      return ['Was to sign as well', code(`${'name' in one ? one.name : one.keyId}: ${one.why}`)];
    }),
    ...(sealSha256 === undefined ? [] : [['SHA-256 of the seal', code(sealSha256)] as const]),
    ...(timestamp === undefined ? [['Timestamp (RFC 3161)', withoutTimestamp(records, hasTimestamp)] as const] : []),
    ...(timestamp === undefined ? [] : timestampRows(timestamp)),
  ];
}

function signerRows({ keyId, name, algorithm, trusted, words }: JudgedSigner): Row[] {
  const known = name === undefined ? '' : `, ${name}`;
  return [
    ['Signed by key', code(`${keyId}${known} (${algorithm})`)],
    ['Trust', trusted ? `${keyId} is a key that you trust${known}` : `not trusted: ${words}`],
  ];
}

function timestampRows({ time, accuracyMs, authority, trusted, policy, serial, afterEndMs }: JudgedTimestamp): Row[] {
  const about = accuracyMs === undefined ? '' : ` (± ${accuracyMs} ms)`;
  return [
    ['Timestamp (RFC 3161)', code(`${time}${about}`)],
    ['Stamped by', code(authority)],
    ['Trust in the authority', trusted ? 'it leads to one that you trust' : 'nothing that you named vouches for it'],
    ['Serial number, policy', code(`${serial}, ${policy}`)],
    ...(afterEndMs === undefined
      ? []
      : [['After the end of the capture, by the clock of the node', code(`${afterEndMs} ms`)] as const]),
  ];
}

/** What is said where no timestamp can be read. */
function withoutTimestamp({ seal }: CustodyFacts['records'], isThere: boolean): Inline {
  const asked = seal?.statement.predicate.timestamp;
  if (asked?.missing !== undefined) return code(`none: asked ${asked.requestedFrom.join(', ')}: ${asked.missing}`);
  if (isThere && expectsTimestamp(seal)) return `${TIMESTAMP_OBJECT} is there, and is no good: see the findings`;
  if (isThere) return `none was asked for; the seal does not speak of ${TIMESTAMP_OBJECT}`;
  return asked === undefined ? 'none was asked for' : `there was one, and ${TIMESTAMP_OBJECT} is gone`;
}
