import { createPrivateKey, createPublicKey, generateKeyPairSync } from 'node:crypto';
import type { Sealer, Signer } from '../../../evidence/seal.ts';
import { keyIdOf, signMessage } from '../../../evidence/signing-key.ts';
import { createBundleWriter } from '../../../evidence/write.ts';
import { openIn } from './memory-sink.ts';
import type { SampleBundle } from './sample-bundle.ts';

/** A P-256 key in memory. */
export function p256Signer(): Signer {
  const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  // By way of PEM: a generated key and one that was read behave alike.
  const key = createPrivateKey(pair.privateKey.export({ type: 'pkcs8', format: 'pem' }));
  const publicKey = createPublicKey(key);
  return { keyId: keyIdOf(publicKey), publicKey, sign: async (message) => signMessage(key, message) };
}

/** `sample` sealed again by another sealer, which its manifest names. */
export async function resealedBy(
  sample: SampleBundle,
  sealer: Sealer,
  keyId = sealer.keyId,
): Promise<Map<string, Buffer>> {
  const objects = new Map(sample.objects);
  const writer = createBundleWriter(openIn(objects), { onStored: () => undefined });
  const request: { agent: { keyId: string } } = JSON.parse(objects.get('request.json')?.toString() ?? '');
  const stored = await writer.writeJson('request.json', { ...request, agent: { ...request.agent, keyId } });
  const manifest = {
    ...structuredClone(sample.manifest),
    objects: sample.manifest.objects.map((object) => (object.name === stored.name ? stored : object)),
    agent: { ...sample.manifest.agent, keyId },
  };
  await writer.seal(manifest, sealer);
  return objects;
}
