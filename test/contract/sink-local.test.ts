import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { openLocalSink } from '../../agent/sink/local.ts';
import { isErrno } from '../../evidence/error.ts';
import { sinkContract } from './sink.ts';

sinkContract('the local sink', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'exhibit-sink-'));
  return {
    sink: openLocalSink({ url: pathToFileURL(folder).href }),
    refusesOverwrite: true,
    settles: true,
    rights: { list: 'allowed', read: 'allowed', overwrites: false, retention: 'none' },
    async read(key) {
      try {
        return await readFile(path.join(folder, key));
      } catch (error) {
        if (isErrno(error, 'ENOENT')) return undefined;
        throw error;
      }
    },
    list: async () => (await readdir(folder, { recursive: true })).sort(),
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true }),
  };
});
