import type { ChainSummary } from './verify-chain.ts';
import type { Custody } from './verify-custody.ts';
import type { Records } from './verify-records.ts';
import type { JudgedSigner } from './verify-signers.ts';
import type { JudgedTimestamp } from './verify-timestamp.ts';

/** What a reader may conclude from a verification, and what not, in sentences. */

export function whatIsProved(
  records: Records,
  intact: boolean,
  counts: { readonly objects: number; readonly members: number; readonly bytes: number },
): string[] {
  const { signer, signers, manifest, timestamp } = records;
  if (!intact || signer === undefined || manifest === undefined) return [];
  return [
    `Each of the ${counts.objects} objects, ${counts.bytes} bytes as stored, is what the holder of key ${signer.keyId} signed.`,
    `Each of the ${counts.members} archive members that are listed is there, in order, with its listed digest.`,
    'No object was added, removed, renamed or changed since the seal.',
    ...signers.filter(({ trusted }) => trusted).map(whoSigned),
    ...(timestamp?.trusted === true ? [whatIsStamped(timestamp)] : []),
  ];
}

/** Of the custody log and of the place in the chain, in a bundle that is intact. */
export function custodyProves({ manifest, seal }: Records, custody: Custody | undefined): string[] {
  const chain = manifest?.value.chain ?? seal?.statement.predicate.chain;
  return [
    ...(custody?.whole === true
      ? [`The custody log has its ${custody.events.length} events, none taken out, put in or changed since the seal.`]
      : []),
    ...(chain?.previous === undefined
      ? []
      : [
          `Capture ${chain.previous.captureId} was sealed before this one, with a seal of SHA-256 ${chain.previous.sealSha256}: ` +
            `this is capture ${chain.sequence} of chain ${chain.chainId}.`,
        ]),
  ];
}

export function whatIsNotProved(records: Records, intact: boolean): string[] {
  const { signer, manifest, seal, timestamp } = records;
  if (!intact) {
    const reason = seal === undefined ? 'it has no good seal' : 'the findings say where it is not what was sealed';
    return [`Nothing is proved about this bundle as a whole: ${reason}.`];
  }
  const gaps = manifest?.value.artifacts.reduce((sum, artifact) => sum + artifact.gapCount, 0) ?? 0;
  return [
    ...(signer?.trusted === true ? [] : ['Who signed: the key is known only from the bundle itself.']),
    ...whenIsNotProved(timestamp),
    'That the node told the truth: an intruder with root on it could show the agent whatever he liked.',
    'That this is every capture there was: a bundle that was removed as a whole leaves no trace in this one (--chain looks around it).',
    ...(gaps === 0 ? [] : [`That everything was captured: the manifest lists ${gaps} gaps.`]),
    ...(manifest?.value.freeze.consistency === 'live'
      ? ['That memory is of one moment: the target ran while it was read.']
      : []),
  ];
}

function whoSigned({ name, keyId }: JudgedSigner): string {
  return name === undefined
    ? 'The key that signed is one that you named as trusted.'
    : `The key that signed is ${name}’s, by your trust root: ${keyId}.`;
}

function whatIsStamped({ time, accuracyMs, authority }: JudgedTimestamp): string {
  const about = accuracyMs === undefined ? '' : `, give or take ${accuracyMs} ms`;
  return `The seal, and with it everything that it covers, existed at ${time}${about}, according to ${authority}, which you named as trusted.`;
}

function whenIsNotProved(timestamp: JudgedTimestamp | undefined): string[] {
  if (timestamp?.trusted === true) {
    return [
      'When the capture was made: its times are those of the node’s clock; only that it was sealed by the time of the timestamp.',
      'That the authority’s certificate was not revoked: nothing was asked over a network.',
    ];
  }
  const unvouched =
    timestamp === undefined ? '' : ` The timestamp says ${timestamp.time}, by an authority that you did not name.`;
  return [`When it was signed: the times are those of the node’s clock, as the node believed it.${unvouched}`];
}

/** What follows from the chains of a folder of captures. */
export function chainProves(chains: readonly ChainSummary[], isWhole: boolean): string[] {
  if (!isWhole) return [];
  return chains.map(
    ({ chainId, captures, newest }) =>
      `All ${captures} captures of chain ${chainId} up to ${newest.captureId} are here: each names the seal of the one before.`,
  );
}

export function chainDoesNotProve(chains: readonly ChainSummary[], isWhole: boolean): string[] {
  if (!isWhole) return ['Nothing is proved about these captures as a row: the findings say where it is broken.'];
  return [
    ...chains.map(
      ({ chainId, newest }) =>
        `That nothing came after capture ${newest.captureId} of chain ${chainId}: write down its number ${newest.sequence} and the ` +
        `SHA-256 of its seal, ${newest.sealSha256}, somewhere else, and look again later.`,
    ),
    'That there was no other chain: one that was removed as a whole leaves no trace. A chain begins when the node boots.',
    'That the objects of these captures are intact: verify looks at those of the bundle that it is given.',
  ];
}
