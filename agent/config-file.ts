import { readFile } from 'node:fs/promises';
import { parseDocument } from 'yaml';
import type { z } from 'zod';
import { ExhibitError } from '../evidence/error.ts';

/** Configuration files of the agent and the controller: YAML, what the environment says over it, and faults in words of people. */

/** A configuration file is read by people; anything larger is a mistake. */
const MAX_CONFIG_BYTES = 1024 * 1024;

/** Environment variable -> path in the configuration. */
export type EnvironmentKey = readonly [string, readonly string[]];

/** @throws ExhibitError `config` */
export async function readConfigFile(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    throw new ExhibitError('config', `Cannot read the configuration file ${file}`, { cause });
  }
}

/** @throws ExhibitError `config` */
export function parseYaml(text: string, file: string): unknown {
  if (text.length > MAX_CONFIG_BYTES)
    throw new ExhibitError('config', `${file} is larger than 1 MiB: this is not a configuration file`);
  const document = parseDocument(text);
  const fault = document.errors[0];
  if (fault !== undefined)
    throw new ExhibitError('config', `${file} is not valid YAML: ${fault.message.split('\n')[0]}`);
  return document.toJS({ maxAliasCount: 100 }) ?? {};
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
    return [
      `${path}: expected ${issue.issues[0]?.message ?? issue.message}, found ${JSON.stringify(issue.path.at(-1))}`,
    ];
  }
  const found = issue.path.reduce<unknown>((at, key) => ownValue(at, key), given);
  const expected = issue.message.replace(/^Invalid (input|option): expected /, '');
  const shown = words.isSecret(issue.path) && found !== undefined ? 'something else' : JSON.stringify(found);
  return [`${path === '' ? 'the file' : path}: expected ${expected}, found ${shown ?? 'nothing'}`];
}

/** All faults of a file as one error. */
export function configFault(file: string, faults: readonly string[]): ExhibitError {
  return new ExhibitError(
    'config',
    [`${file} has ${faults.length === 1 ? 'a fault' : `${faults.length} faults`}:`, ...faults].join('\n  '),
  );
}

function ownValue(at: unknown, key: PropertyKey): unknown {
  return typeof at === 'object' && at !== null && Object.hasOwn(at, key) ? Reflect.get(at, key) : undefined;
}
