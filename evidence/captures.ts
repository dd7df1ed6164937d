import { opendir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import type { BundleReader, OpenBundleOptions } from './bundle.ts';
import { openFolderBundle } from './bundle-folder.ts';
import { ExhibitError } from './error.ts';

/** The captures of one node in one sink: `<sink>/<cluster>/<node>/`, with a folder for each capture. */
export interface CaptureFolder extends AsyncDisposable {
  /** For people: `file:///evidence/c1/n1` or `s3://bucket/...`. */
  readonly url: string;
  /** The names of the folders, in no order; whether they hold captures is not known. */
  list(): AsyncIterable<string>;
  /** Throws ExhibitError `bundle-not-found`. What it opens is to be closed before the folder is. */
  open(name: string): Promise<BundleReader>;
}

/** The folder of captures at `url`, as a bundle's reader has it: `file:///...` or `s3://...`. */
export async function openCaptureFolder(url: string, options: OpenBundleOptions = {}): Promise<CaptureFolder> {
  if (url.startsWith('s3://')) {
    const { openS3Captures } = await import('./bundle-s3.ts');
    return openS3Captures(url, options);
  }
  const folder = fileURLToPath(url);
  return {
    url,
    list: () => listFolders(folder),
    open: (name) => openFolderBundle(join(folder, name)),
    async [Symbol.asyncDispose]() {},
  };
}

/** Where the bundle at `url` lies with its siblings, and its name there. Throws ExhibitError `usage` where there is no such place. */
export function siblingsOf(url: string): { readonly folder: string; readonly name: string } {
  if (url.startsWith('s3://')) {
    const parts = /^(s3:\/\/[^/]+(?:\/.+)?)\/([^/]+)$/s.exec(url);
    if (parts !== null) return { folder: parts[1] ?? '', name: parts[2] ?? '' };
  } else {
    const path = fileURLToPath(url).replace(/\/+$/, '');
    const folder = dirname(path);
    if (folder !== path)
      return { folder: pathToFileURL(folder).href, name: path.slice(folder.length).replace(/^\//, '') };
  }
  throw new ExhibitError('usage', `${url} lies in no folder of captures: leave --chain away.`);
}

/** Links are not followed. */
async function* listFolders(folder: string): AsyncGenerator<string> {
  for await (const entry of await opendir(folder)) if (entry.isDirectory()) yield entry.name;
}
