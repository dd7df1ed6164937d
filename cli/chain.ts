import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ExhibitError, isErrno } from '../evidence/error.ts';
import type { Trust } from '../evidence/trust.ts';
import type { ChainReport, ChainSummary } from '../evidence/verify-chain.ts';
import { type BundleOptions, identitiesOf } from './bundle.ts';
import { describeFinding, section } from './finding-words.ts';
import { formatCount, formatFields } from './print.ts';

/** The captures beside a bundle, for `verify --chain` and `custody`. */

/** Of the folder that the bundle at `url` lies in. */
export async function chainOf(
  url: string,
  options: BundleOptions,
  signal: AbortSignal,
  trust: Trust,
): Promise<ChainReport> {
  const { siblingsOf } = await import('../evidence/captures.ts');
  return await read(siblingsOf(url).folder, options, signal, trust);
}

/** Of a folder that was named as such; undefined when there is no capture in it. */
export async function chainsIn(
  folder: string,
  options: BundleOptions,
  signal: AbortSignal,
  trust: Trust,
): Promise<ChainReport | undefined> {
  const url = /^(?:s3|file):\/\//.test(folder) ? folder.replace(/\/+$/, '') : pathToFileURL(resolve(folder)).href;
  try {
    const report = await read(url, options, signal, trust);
    return report.captures === 0 ? undefined : report;
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw error;
  }
}

async function read(url: string, options: BundleOptions, signal: AbortSignal, trust: Trust): Promise<ChainReport> {
  const { openCaptureFolder } = await import('../evidence/captures.ts');
  const { verifyChains } = await import('../evidence/verify-chain.ts');
  await using folder = await openCaptureFolder(url, {
    ...(options.endpoint === undefined ? {} : { endpoint: options.endpoint }),
    ...(options.region === undefined ? {} : { region: options.region }),
    ...(options.pathStyle === undefined ? {} : { forcePathStyle: options.pathStyle }),
  });
  try {
    const report = await verifyChains(folder, { trust, identities: await identitiesOf(options), signal });
    signal.throwIfAborted();
    return report;
  } catch (error) {
    signal.throwIfAborted();
    if (isErrno(error, 'EACCES', 'EPERM')) {
      throw new ExhibitError('bundle-not-found', `${url} cannot be listed`, { cause: error });
    }
    throw error;
  }
}

/** As many chains as a person reads; all are in `--json`. */
const MAX_SHOWN_CHAINS = 40;
const MAX_SHOWN_FINDINGS = 40;

export function describeChains(report: ChainReport): string {
  const shown = report.findings.slice(0, MAX_SHOWN_FINDINGS);
  const hidden = report.findings.length - shown.length;
  const fields = formatFields([
    ['captures', report.url],
    ['looked at', formatCount(report.captures, 'capture')],
    ...report.chains.slice(0, MAX_SHOWN_CHAINS).map((chain) => ['chain', describeChain(chain)] as const),
    ['found', `${formatCount(report.counts.errors, 'error')}, ${formatCount(report.counts.warnings, 'warning')}`],
  ]);
  const isChained = report.chains.length > 0;
  const verdict = !report.whole ? 'CHAIN BROKEN' : isChained ? 'CHAIN WHOLE' : 'NO CHAIN: nothing links these captures';
  return [
    `${verdict}\n`,
    fields,
    section('Findings:', [...shown.map(describeFinding), ...(hidden > 0 ? [`${hidden} more, see --json`] : [])]),
    section('This proves:', report.proves),
    section('This does not prove:', report.doesNotProve),
  ].join('');
}

function describeChain({ chainId, captures, first, newest }: ChainSummary): string {
  const range = `${formatCount(captures, 'capture')}, numbers ${first.sequence} to ${newest.sequence}`;
  return `${chainId}: ${range}, newest ${newest.captureId} with a seal of SHA-256 ${newest.sealSha256}`;
}
