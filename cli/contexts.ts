import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { parseDocument, stringify } from 'yaml';
import { z } from 'zod';
import { ExhibitError, isErrno } from '../evidence/error.ts';
import { isAddress } from '../proto/address.ts';
import { contextsPath } from './contexts-path.ts';
import type { Session } from './session.ts';

/**
 * Which controllers this person knows, as kubectl has its clusters: a YAML file with named contexts, one of them current. It
 * holds paths of keys and tokens, never what is in them.
 */

const oneLine = z.string().regex(/^[^\p{Cc}]{1,4096}$/u, { error: 'one line of text' });

const contextSchema = z.strictObject({
  name: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._@/-]{0,99}$/, { error: 'a name of letters, digits and . _ @ / -' }),
  controller: z.string().refine(isAddress, { error: 'HOST:PORT' }),
  /** PEM of the authority that signed the controller's certificate; the system's authorities where it is absent. */
  caFile: oneLine.optional(),
  certFile: oneLine.optional(),
  keyFile: oneLine.optional(),
  /** A file with an OIDC token, read for each command. */
  tokenFile: oneLine.optional(),
  /** A program that prints an OIDC token, with its arguments; no shell is involved. */
  tokenCommand: z.array(oneLine).min(1).max(32).optional(),
  /** The name in the controller's certificate, where it is not that of the address. */
  serverName: oneLine.optional(),
});

const fileSchema = z.strictObject({
  currentContext: z.string().default(''),
  contexts: z.array(contextSchema).max(1000).default([]),
});

export type Context = z.output<typeof contextSchema>;
export type ContextsFile = z.output<typeof fileSchema>;

/** No file: no contexts. @throws ExhibitError `config` for one that cannot be read or understood */
export async function readContexts(env: Session['env']): Promise<ContextsFile> {
  const file = contextsPath(env);
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (cause) {
    if (isErrno(cause, 'ENOENT', 'ENOTDIR')) return { currentContext: '', contexts: [] };
    throw new ExhibitError('config', `Cannot read the contexts in ${file}`, { cause });
  }
  const document = parseDocument(text);
  const fault = document.errors[0]?.message.split('\n')[0];
  if (fault !== undefined) throw new ExhibitError('config', `${file} is not valid YAML: ${fault}`);
  const parsed = fileSchema.safeParse(document.toJS({ maxAliasCount: 100 }) ?? {});
  if (parsed.success) return resolved(parsed.data, path.dirname(file));
  const faults = parsed.error.issues.map((issue) => `${issue.path.join('.') || 'the file'}: ${issue.message}`);
  throw new ExhibitError('config', [`${file} is not as it should be:`, ...faults].join('\n  '));
}

/** As kubectl does it: paths are relative to the file that names them. */
function resolved(file: ContextsFile, folder: string): ContextsFile {
  const full = (name: string | undefined) => (name === undefined ? undefined : path.resolve(folder, name));
  return {
    ...file,
    contexts: file.contexts.map(({ caFile, certFile, keyFile, tokenFile, ...context }) =>
      defined({
        ...context,
        caFile: full(caFile),
        certFile: full(certFile),
        keyFile: full(keyFile),
        tokenFile: full(tokenFile),
      }),
    ),
  };
}

function defined<T extends object>(value: T): { [Key in keyof T]: Exclude<T[Key], undefined> } {
  return Object.fromEntries(Object.entries(value).filter(([, one]) => one !== undefined)) as {
    [Key in keyof T]: Exclude<T[Key], undefined>;
  };
}

/** Whole or not at all; only its owner may read where the keys are. */
export async function writeContexts(env: Session['env'], contexts: ContextsFile): Promise<void> {
  const file = contextsPath(env);
  const checked = fileSchema.safeParse(contexts);
  if (!checked.success) {
    const faults = checked.error.issues.map(
      (issue) => `${issue.path.at(-1)?.toString() ?? 'context'}: ${issue.message}`,
    );
    throw new ExhibitError('usage', faults.join('\n  '));
  }
  try {
    await mkdir(path.dirname(file), { recursive: true, mode: 0o700 });
    const partial = `${file}.${process.pid}.tmp`;
    await writeFile(partial, stringify(contexts), { mode: 0o600 });
    await rename(partial, file);
  } catch (cause) {
    throw new ExhibitError('config', `Cannot write the contexts to ${file}`, { cause });
  }
}

/** @throws ExhibitError `usage` that names those that there are */
export function contextNamed(file: ContextsFile, name: string): Context {
  const found = file.contexts.find((one) => one.name === name);
  if (found !== undefined) return found;
  const names = file.contexts.map((one) => one.name);
  const there =
    names.length === 0 ? 'there are none yet: `exhibit context set` makes one' : `there are ${names.join(', ')}`;
  throw new ExhibitError('usage', `There is no context ${name}; ${there}.`);
}
