import { createReadStream } from 'node:fs';
import { buffer } from 'node:stream/consumers';
import { parseDocument } from 'yaml';
import type { z } from 'zod';
import { ExhibitError, explain } from '../evidence/error.ts';

/** Configuration files of the agent and the controller: YAML, what the environment says over it, and faults in words of people. */

/** A configuration file is read by people; anything larger is a mistake. */
const MAX_CONFIG_BYTES = 1024 * 1024;

/** Environment variable -> path in the configuration. */
export type EnvironmentKey = readonly [string, readonly string[]];

/** What a value shows of itself in an error. */
const MAX_SHOWN_CHARS = 200;

/** A pipe will do as well, and no more is read of anything than a configuration has. @throws ExhibitError `config` */
export async function readConfigFile(file: string): Promise<string> {
  const bytes = await buffer(createReadStream(file, { end: MAX_CONFIG_BYTES })).catch((cause: unknown) => {
    throw new ExhibitError('config', `Cannot read the configuration file ${file}`, { cause });
  });
  if (bytes.length > MAX_CONFIG_BYTES) throw tooLarge(file);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new ExhibitError('config', `${file} is not text in UTF-8, and a name in it would be another one`, { cause });
  }
}

const tooLarge = (file: string): ExhibitError =>
  new ExhibitError('config', `${file} is larger than 1 MiB: this is not a configuration file`);

/** @throws ExhibitError `config` */
export function parseYaml(text: string, file: string): unknown {
  if (text.length > MAX_CONFIG_BYTES) throw tooLarge(file);
  const document = parseDocument(text);
  const fault = document.errors[0];
  if (fault !== undefined)
    throw new ExhibitError('config', `${file} is not valid YAML: ${fault.message.split('\n')[0]}`);
  try {
    return document.toJS({ maxAliasCount: 100 }) ?? {};
  } catch (cause) {
    throw new ExhibitError('config', `${file} is not valid YAML here: ${explain(cause)}`, { cause });
  }
}

/** What the environment says wins over the file; an empty variable says nothing. */
export function withEnvironment(given: unknown, env: NodeJS.ProcessEnv, variables: readonly EnvironmentKey[]): unknown {
  if (!isRecord(given)) return given;
  const merged = structuredClone(given);
  for (const [variable, keys] of variables) {
    const value = env[variable];
    if (value === undefined || value === '') continue;
    let at = merged;
    for (const key of keys.slice(0, -1)) {
      const next = at[key];
      if (isRecord(next)) at = next;
      else at = at[key] = {};
    }
    at[keys.at(-1) ?? ''] = value;
  }
  return merged;
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export interface FaultWords {
  /** Where the keys are described. */
  readonly document: string;
  /** True where what was found is not to be repeated: it may be a key or a password. */
  readonly isSecret: (path: readonly PropertyKey[]) => boolean;
}

/** One fault of zod as lines: where, what was expected, what is there. */
export function faultLines(issue: z.core.$ZodIssue, given: unknown, words: FaultWords): string[] {
  const path = issue.path.join('.');
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map(
      (key) =>
        `${[...issue.path, key].join('.')}: unknown key, expected one of the keys in ${words.document}; if a newer exhibit wrote it, take it out before going back to this one`,
    );
  }
  if (issue.code === 'invalid_key') {
    return [`${path}: expected ${issue.issues[0]?.message ?? issue.message}, found ${shownValue(issue.path.at(-1))}`];
  }
  const found = issue.path.reduce<unknown>((at, key) => ownValue(at, key), given);
  const expected = issue.message.replace(/^(Invalid (input|option)|Too (small|big)): expected /, '');
  const shown = words.isSecret(issue.path) && found !== undefined ? 'something else' : shownValue(found);
  return [`${path === '' ? 'the file' : path}: expected ${expected}, found ${shown ?? 'nothing'}`];
}

/** All faults of a file as one error. */
export function configFault(file: string, faults: readonly string[]): ExhibitError {
  return new ExhibitError(
    'config',
    [`${file} has ${faults.length === 1 ? 'a fault' : `${faults.length} faults`}:`, ...faults].join('\n  '),
  );
}

/** Undefined for what is not there. */
function shownValue(found: unknown): string | undefined {
  // JSON has no NaN and no infinity, and YAML has.
  if (typeof found === 'number') return String(found);
  try {
    const text = JSON.stringify(found);
    return text === undefined || text.length <= MAX_SHOWN_CHARS ? text : `${text.slice(0, MAX_SHOWN_CHARS)}...`;
  } catch {
    // An alias inside of its own anchor.
    return 'something that holds itself';
  }
}

function ownValue(at: unknown, key: PropertyKey): unknown {
  return typeof at === 'object' && at !== null && Object.hasOwn(at, key) ? Reflect.get(at, key) : undefined;
}
