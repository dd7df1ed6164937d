import { z } from 'zod';
import { readTar } from '../tar-reader.ts';
import { isPartOf } from '../timeline/archive.ts';
import type { FactsLimits, KindFacts } from './facts.ts';
import { type FactsSource, factLines, missGaps, readKinds } from './read.ts';

/** Kernel modules, of `node.tar.zst`: docs/node.md. */

const moduleSchema = z.object({
  name: z.string(),
  builtIn: z.boolean().optional(),
  listedOnce: z.boolean().optional(),
  sizeBytes: z.number().optional(),
  taints: z.array(z.string()).optional(),
  version: z.string().optional(),
  sourceVersion: z.string().optional(),
});

/** A module has 256 parameters at most, each of a page. */
const MAX_LINE_BYTES = 4 * 1024 * 1024;

export async function readModules(source: FactsSource, limits: FactsLimits): Promise<KindFacts> {
  const object = 'node.tar.zst';
  const from = { artifact: 'node', object, kinds: ['modules'] } as const;
  const { modules: facts } = await readKinds(source, limits, from, async ({ modules }, artifact) => {
    missGaps(modules.builder, artifact, ({ what }) =>
      /^sys\/module|^proc\/modules|^modules|in \/sys\/module/.test(what),
    );
    let found = false;
    for await (const { header, path, body } of readTar(source.content(object))) {
      const isModules = header.type === 'file' && isPartOf('modules', path);
      // What comes after may be a hundred thousand rules.
      if (found && !isModules) break;
      if (!isModules) continue;
      found = true;
      for await (const batch of factLines(body, moduleSchema, MAX_LINE_BYTES, { name: path, ...modules })) {
        for (const { value } of batch) {
          const { name, builtIn = false, listedOnce = false, taints = [], ...told } = value;
          modules.builder.add(name, { name, builtIn, listedOnce, taints, ...told });
        }
      }
    }
    modules.done = true;
  });
  return facts;
}
