import { createHash } from 'node:crypto';
import { type CustodyEntry, custodyLines } from '../../../evidence/custody.ts';
import { canonicalJson } from '../../../evidence/json.ts';
import { CUSTODY_OBJECT, MEDIA_TYPES, REQUEST_OBJECT, SEAL_OBJECT } from '../../../evidence/layout.ts';
import type { ChainLink, Manifest, RequestRecord } from '../../../evidence/manifest.ts';
import { generateSigner, type Signer } from '../../../evidence/seal.ts';
import { createBundleWriter } from '../../../evidence/write.ts';
import { openIn } from './memory-sink.ts';
import { requestRecord, type SampleBundle, sampleBundle } from './sample-bundle.ts';

export const CHAIN_ID = '0b7c1c9e-5d0a-4a57-9c50-0a4f0f5e8a11';
/** The n-th capture; ids sort by their number. */
export const captureIdOf = (n: number) => `0192f0c1-0000-7000-8000-${String(n).padStart(12, '0')}`;

export interface CustodyBundleOptions {
  readonly signer?: Signer;
  readonly captureId?: string;
  readonly chain?: ChainLink;
  readonly tiny?: boolean;
  readonly request?: Partial<RequestRecord>;
  /** The events as they are written, after those of an honest agent were made. */
  readonly events?: (entries: CustodyEntry[]) => CustodyEntry[];
  /** The log's bytes. */
  readonly log?: (bytes: Buffer) => Buffer;
  readonly change?: (manifest: Manifest, objects: Map<string, Buffer>) => void;
}

const digestOf = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const stored = (bytes: Uint8Array) => ({ sha256: digestOf(bytes), sizeBytes: bytes.length });

/** The sample bundle as a newer agent leaves it: with custody log, sink and place in a chain. */
export async function custodyBundle(options: CustodyBundleOptions = {}): Promise<SampleBundle> {
  const signer = options.signer ?? generateSigner();
  const sample = await sampleBundle(signer, options.tiny);
  const { objects } = sample;
  const captureId = options.captureId ?? sample.manifest.captureId;
  const request = { ...requestRecord(signer.keyId), captureId, exhibitNumber: 'EX-1', acquirer: 'A. Person' };
  const requestBytes = Buffer.from(canonicalJson({ ...request, ...options.request }));
  objects.set(REQUEST_OBJECT, requestBytes);
  const manifest: Manifest = {
    ...structuredClone(sample.manifest),
    captureId,
    sink: { name: 'court', url: 's3://evidence/prod', objectLock: { mode: 'COMPLIANCE', legalHold: true } },
    chain: options.chain ?? { chainId: CHAIN_ID, sequence: 1 },
  };
  Object.assign(manifest.freeze, { frozenAt: '2026-11-22T10:00:02.000Z', thawedAt: '2026-11-22T10:00:02.012Z' });
  for (const object of manifest.objects) if (object.name === REQUEST_OBJECT) object.stored = stored(requestBytes);
  const honest = honestEvents(manifest, request);
  const lines = Buffer.from(custodyLines(options.events?.(honest) ?? honest));
  const log = options.log?.(lines) ?? lines;
  objects.set(CUSTODY_OBJECT, log);
  manifest.objects.push({ name: CUSTODY_OBJECT, mediaType: MEDIA_TYPES.plainJsonl, stored: stored(log) });
  options.change?.(manifest, objects);
  await createBundleWriter(openIn(objects), { onStored: () => undefined }).seal(manifest, signer);
  return { objects, manifest, signer };
}

function honestEvents(manifest: Manifest, request: RequestRecord): CustodyEntry[] {
  const { trigger, identity } = request.requester;
  const by = 'exhibit 0.1.0 (pid 1)';
  const entries: Omit<CustodyEntry, 'at'>[] = [
    {
      event: 'requested',
      by: identity,
      what: 'a capture of default/shop-1 was asked for',
      facts: { captureId: request.captureId, trigger },
    },
    {
      event: 'accepted',
      by,
      what: 'the agent took it on',
      facts: {},
      clock: { source: 'time.example.org', offsetMs: 12.5, uncertaintyMs: 4 },
    },
    { event: 'frozen', by, what: 'the container was stopped', facts: {} },
    { event: 'thawed', by, what: 'the container runs again', facts: {} },
  ];
  for (const { name, status, objects } of manifest.artifacts) {
    for (const object of objects) {
      const record = manifest.objects.find((one) => one.name === object);
      const facts = {
        object,
        sha256: record?.stored.sha256 ?? '',
        sizeBytes: record?.stored.sizeBytes ?? 0,
        sink: 'court',
      };
      entries.push({ event: 'object-stored', by, what: `${object} was stored`, facts });
    }
    entries.push({ event: 'artifact-ended', by, what: `${name} was captured`, facts: { artifact: name, status } });
  }
  const facts = { outcome: manifest.outcome, sink: 'court' };
  entries.push({ event: 'sealing', by, what: 'the bundle is sealed', facts });
  return entries.map((entry, index) => ({ ...entry, at: `2026-11-22T10:00:0${Math.min(index, 9)}.000Z` }));
}

/** `length` captures of one agent, each after the one before. */
export async function chainOfBundles(
  length: number,
  signer = generateSigner(),
  tiny = true,
): Promise<Map<string, Map<string, Buffer>>> {
  const captures = new Map<string, Map<string, Buffer>>();
  let previous: ChainLink['previous'];
  for (let sequence = 1; sequence <= length; sequence += 1) {
    const captureId = captureIdOf(sequence);
    const chain = { chainId: CHAIN_ID, sequence, ...(previous === undefined ? {} : { previous }) };
    const { objects } = await custodyBundle({ signer, captureId, chain, tiny });
    captures.set(captureId, objects);
    previous = { captureId, sealSha256: digestOf(objects.get(SEAL_OBJECT) ?? Buffer.alloc(0)) };
  }
  return captures;
}
