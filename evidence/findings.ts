/** What is wrong with a bundle, in words a program can switch on. Closed: a new check gets a new code. */
export type FindingCode =
  | 'seal-missing'
  | 'seal-invalid'
  | 'seal-disagrees'
  | 'signer-untrusted'
  | 'signer-unvouched'
  | 'signer-disagrees'
  | 'signer-expired'
  | 'signer-missing'
  | 'signatures-too-few'
  | 'timestamp-missing'
  | 'timestamp-unavailable'
  | 'timestamp-invalid'
  | 'timestamp-untrusted'
  | 'timestamp-clock'
  | 'manifest-missing'
  | 'manifest-invalid'
  | 'manifest-inconsistent'
  | 'request-missing'
  | 'request-invalid'
  | 'request-disagrees'
  | 'capture-unfinished'
  | 'capture-partial'
  | 'not-canonical'
  | 'duplicate-key'
  | 'custody-missing'
  | 'custody-broken'
  | 'custody-disagrees'
  | 'custody-time'
  | 'changes-invalid'
  | 'chain-hole'
  | 'chain-broken'
  | 'chain-fork'
  | 'chain-unsealed'
  | 'chain-unreadable'
  | 'chain-encrypted'
  | 'chain-begins'
  | 'chain-none'
  | 'object-missing'
  | 'object-truncated'
  | 'object-unlisted'
  | 'object-irregular'
  | 'object-name-unsafe'
  | 'object-unreadable'
  | 'object-size'
  | 'object-digest'
  | 'frames-corrupt'
  | 'encryption-corrupt'
  | 'contents-encrypted'
  | 'identity-wrong'
  | 'content-size'
  | 'content-digest'
  | 'tar-corrupt'
  | 'members-not-listed'
  | 'members-list-corrupt'
  | 'member-unlisted'
  | 'member-missing'
  | 'member-order'
  | 'member-type'
  | 'member-size'
  | 'member-digest'
  | 'member-name-unsafe'
  | 'member-duplicate'
  | 'list-failed';

/**
 * `error`: the bundle is not what was sealed. `warning`: intact, but a reader should know. `info`: worth saying.
 * `object` and `member` name the thing verbatim as the bundle has it: escape before showing them on a terminal.
 */
export interface Finding {
  readonly severity: 'error' | 'warning' | 'info';
  readonly code: FindingCode;
  readonly message: string;
  readonly artifact?: string;
  readonly object?: string;
  readonly member?: string;
}

/** More than a person reads; all are counted. */
export const MAX_FINDINGS = 1000;
/** Longer names of a hostile bundle are cut in findings. */
const MAX_NAME_CHARS = 4096;

/** A bounded list of findings: errors take the place of lesser ones when it is full. */
export interface Findings {
  readonly errors: number;
  readonly warnings: number;
  readonly infos: number;
  add(severity: Finding['severity'], code: FindingCode, message: string, where?: Where): void;
  /** At most MAX_FINDINGS, in the order they were made. */
  list(): Finding[];
}

export type Where = Pick<Finding, 'artifact' | 'object' | 'member'>;

export function createFindings(): Findings {
  const kept: Finding[] = [];
  const counts = { error: 0, warning: 0, info: 0 };
  return {
    get errors() {
      return counts.error;
    },
    get warnings() {
      return counts.warning;
    },
    get infos() {
      return counts.info;
    },
    add(severity, code, message, where = {}) {
      counts[severity] += 1;
      if (kept.length >= MAX_FINDINGS) {
        const lesser = severity === 'error' ? kept.findLastIndex((finding) => finding.severity !== 'error') : -1;
        if (lesser === -1) return;
        kept.splice(lesser, 1);
      }
      kept.push({ severity, code, message: shorten(message), ...shortenWhere(where) });
    },
    list: () => [...kept],
  };
}

function shorten(text: string): string {
  return text.length <= MAX_NAME_CHARS ? text : `${text.slice(0, MAX_NAME_CHARS)}…`;
}

function shortenWhere(where: Where): Where {
  return {
    ...(where.artifact === undefined ? {} : { artifact: shorten(where.artifact) }),
    ...(where.object === undefined ? {} : { object: shorten(where.object) }),
    ...(where.member === undefined ? {} : { member: shorten(where.member) }),
  };
}
