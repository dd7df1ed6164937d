import type { Logger } from 'pino';
import { explain } from '../../evidence/error.ts';
import { loadMaterial, type Material, stateOf, type TlsFiles } from './files.ts';

/** Files of TLS that are read again when they change. */
export interface WatchedMaterial extends AsyncDisposable {
  readonly first: Material;
  reload(): Promise<void>;
}

/**
 * Files are looked at, not watched: that sees every kind of replacement (Kubernetes swaps a link to a folder, cert-manager a secret
 * behind it, people rename) on every file system, for four stat calls.
 */
const POLL_MS = 2_000;
/** Time for somebody to do something about it. */
const WARN_AHEAD_MS = 7 * 24 * 3_600_000;
const WARN_EVERY_MS = 24 * 3_600_000;

/** `apply` takes what was read; when it throws, that counts as no good. @throws ExhibitError `config` when the first is no good */
export async function watchMaterial(
  files: TlsFiles,
  apply: (material: Material) => void,
  log: Logger,
  pollMs = POLL_MS,
): Promise<WatchedMaterial> {
  let seen = await stateOf(files);
  const first = await loadMaterial(files, Date.now());
  let current = first;
  let told = '';
  let warnedMs = 0;
  const warn = () => {
    if (Date.now() - warnedMs < WARN_EVERY_MS) return;
    warnedMs = Date.now();
    for (const words of shortOfTime(current, files, Date.now())) log.warn(words);
  };
  const load = async (): Promise<void> => {
    try {
      const before = await stateOf(files);
      const next = await loadMaterial(files, Date.now());
      const after = await stateOf(files);
      apply(next);
      current = next;
      // Written to while it was read: the next look reads it again.
      seen = before === after ? after : undefined;
      told = '';
      warnedMs = 0;
      log.info(fieldsOf(next), 'TLS files read');
      warn();
    } catch (error) {
      // Not all files of a set are replaced at the same instant, so it is tried again; and told once.
      seen = undefined;
      const reason = explain(error);
      if (reason !== told) log.error({ reason }, 'new TLS files are no good: those from before stay in use');
      told = reason;
    }
  };
  let loading: Promise<void> = Promise.resolve();
  const reload = () => {
    loading = loading.then(load);
    return loading;
  };
  log.info(fieldsOf(first), 'TLS files read');
  warn();
  let looking = false;
  const poll = setInterval(async () => {
    if (looking) return;
    looking = true;
    warn();
    const state = await stateOf(files);
    if (state === undefined || state !== seen) await reload();
    looking = false;
  }, pollMs).unref();
  return {
    first,
    reload,
    [Symbol.asyncDispose]: async () => {
      clearInterval(poll);
      await loading;
    },
  };
}

function fieldsOf({ certificate, authorities, lists }: Material): object {
  return {
    serial: certificate.serialNumber,
    notAfter: certificate.validToDate.toISOString(),
    authorities: authorities.map(({ fingerprint256 }) => fingerprint256),
    revocationLists: lists.map(({ number, nextUpdateMs }) => ({
      number: number?.toString(),
      nextUpdate: nextUpdateMs === undefined ? undefined : new Date(nextUpdateMs).toISOString(),
    })),
  };
}

function shortOfTime({ certificate, lists }: Material, files: TlsFiles, nowMs: number): string[] {
  const until = (ms: number) => new Date(ms).toISOString();
  const words: string[] = [];
  const notAfterMs = certificate.validToDate.getTime();
  if (notAfterMs - nowMs < WARN_AHEAD_MS)
    words.push(`the certificate in ${files.certFile} expires ${until(notAfterMs)}: replace it before`);
  for (const { nextUpdateMs } of lists)
    if (nextUpdateMs !== undefined && nextUpdateMs - nowMs < WARN_AHEAD_MS)
      words.push(
        `a revocation list in ${files.crlFile} ends ${until(nextUpdateMs)}, and then nobody is let in: renew it`,
      );
  return words;
}
