/** A writable layer and an image below it, in a folder of the test's own. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach } from 'vitest';
import { rootfsCollector } from '../../agent/collect/rootfs.ts';
import { asHostPath } from '../../agent/runtime/runtime.ts';
import { type BundleContext, bundleContext, makeTarget } from '../unit/collect/bundle-context.ts';

/** Of the test that runs. */
export let root = '';
export let upper = '';
export let lower = '';

/** Gives each test of the file its layers. */
export function eachWithLayers(): void {
  beforeEach(() => {
    root = mkdtempSync(path.join(tmpdir(), 'exhibit-layers-'));
    upper = path.join(root, 'upper');
    lower = path.join(root, 'lower');
    mkdirSync(upper);
    mkdirSync(lower);
  });
  afterEach(() => {
    execFileSync('rm', ['-rf', root]);
  });
}

/** Runs a script in `folder`, with os, socket and stat there. */
export const python = (folder: string, script: string): string =>
  execFileSync('python3', ['-c', `import os, socket, stat\nos.chdir('${folder}')\n${script}`], { encoding: 'utf8' });

/** What the collector makes of them, or of the writable layer `from`; `now` instead of the time that tests usually have. */
export async function capture({
  from = upper,
  lowers = [lower],
  now,
}: {
  readonly from?: string;
  readonly lowers?: readonly string[];
  readonly now?: () => number;
} = {}): Promise<BundleContext> {
  const rootfs = {
    kind: 'overlay' as const,
    upper: asHostPath(from),
    lowers: lowers.map(asHostPath),
    userXattr: false,
  };
  const bundle = bundleContext(path.join(root, 'out'), makeTarget({ rootfs }));
  await rootfsCollector.collect(now === undefined ? bundle.context : { ...bundle.context, now });
  return bundle;
}
