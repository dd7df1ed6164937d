/** What became of the request that makes an object visible. */
export type CommitAnswer =
  /** `note` when it was concluded and not answered. */
  { readonly kind: 'stored'; readonly note?: string } | { readonly kind: 'exists' } | { readonly kind: 'failed' };

export interface FailedCommit {
  /** Error names and codes, as `errorNames` gives them. */
  readonly names: readonly string[];
  /** HTTP status, where there was an answer. */
  readonly status: number | undefined;
  /** An earlier attempt of the same request may have been carried out although no good answer came. */
  readonly unclear: boolean;
}

/**
 * A PutObject that failed. 412 after an attempt that ended unclear is taken as our own object: the key holds the capture's
 * id, so nobody else writes it, and a bundle's digests show it if somebody did. Without read rights nothing better can be
 * asked. Pure.
 */
export function judgePut({ status, unclear }: FailedCommit): CommitAnswer {
  if (status === 412) {
    return unclear
      ? { kind: 'stored', note: 'the answer to the first attempt was lost, and a second one found the object' }
      : { kind: 'exists' };
  }
  return status === 409 ? { kind: 'exists' } : { kind: 'failed' };
}

/**
 * A CompleteMultipartUpload that failed. `ask`: abort the upload; if it was still open the object is not ours, and if it
 * was gone our own earlier attempt had completed it. `last`: the last attempt itself ended unclear. Pure.
 */
export function judgeComplete(
  failed: FailedCommit & { readonly last: boolean },
): CommitAnswer | { readonly kind: 'ask' } {
  const { names, status, unclear, last } = failed;
  if (names.includes('NoSuchUpload')) {
    // Only we complete or abort this upload; a lifecycle rule waits for a day at least.
    return unclear
      ? {
          kind: 'stored',
          note: 'the answer to the first attempt was lost, and a second one found the upload completed',
        }
      : { kind: 'failed' };
  }
  // radosgw answers NoSuchKey for an upload that it has completed.
  if (status === 404 && unclear) return { kind: 'ask' };
  if (status === 412) return unclear ? { kind: 'ask' } : { kind: 'exists' };
  if (status === 409) return { kind: 'exists' };
  return last ? { kind: 'ask' } : { kind: 'failed' };
}
