import type { BundleReader } from '../evidence/bundle.ts';
import type { Facts } from '../evidence/facts/facts.ts';
import { factsAbout, readFacts } from '../evidence/facts/read.ts';
import type { Manifest } from '../evidence/manifest.ts';
import type { VerifyProgress } from '../evidence/verify.ts';
import { readContent } from './bundle.ts';

export interface FactsOfBundle {
  readonly reader: BundleReader;
  readonly manifest: Manifest;
  readonly signal: AbortSignal;
  readonly progress: { show(at: VerifyProgress): void } | undefined;
}

/** What a bundle says in comparable form, wherever it is. */
export async function factsOfBundle({ reader, manifest, signal, progress }: FactsOfBundle): Promise<Facts> {
  const objects = new Map(manifest.objects.map((object) => [object.name, object]));
  return await readFacts({
    about: factsAbout(manifest),
    target: manifest.target,
    artifacts: manifest.artifacts,
    hasObject: (name) => objects.has(name),
    async *content(name) {
      const object = objects.get(name);
      if (object === undefined) return;
      const totalBytes = object.content?.sizeBytes ?? object.stored.sizeBytes;
      let doneBytes = 0;
      for await (const chunk of readContent(reader, object, signal)) {
        doneBytes += chunk.length;
        progress?.show({ object: name, doneBytes, totalBytes });
        yield chunk;
      }
    },
  });
}
