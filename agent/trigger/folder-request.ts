import { createHash } from 'node:crypto';
import { v7 as uuidv7 } from 'uuid';
import { parseDocument } from 'yaml';
import { z } from 'zod';
import { ExhibitError } from '../../evidence/error.ts';
import { duplicateKey, parseJson } from '../../evidence/json.ts';
import type { CaptureRequest__Output } from '../../proto/gen/exhibit/v1/CaptureRequest.ts';
import type { Selector__Output } from '../../proto/gen/exhibit/v1/Selector.ts';
import { parseSelector, selectorToProto } from '../runtime/select.ts';
import { isYaml } from './folder-name.ts';

/** What is in a request file: docs/request-folder.md. Pure. */

/** The longest request that a person would write has some 2 KiB. */
export const MAX_REQUEST_BYTES = 64 * 1024;
/** For each text; of the whole there are no more than MAX_REQUEST_BYTES. */
const MAX_TEXT = 4096;
const MAX_LIST = 64;

const text = z.string().max(MAX_TEXT);
const container = { container: text.default('') };
const selectorSchema = z.union(
  [
    z.strictObject({ pod: z.strictObject({ namespace: text, pod: text, ...container }) }),
    z.strictObject({ labels: z.strictObject({ labels: z.record(text, text), ...container }) }),
    z.strictObject({ containerId: text }),
    z.strictObject({ containerName: text }),
    z.strictObject({ pid: z.number().int().positive() }),
    z.strictObject({ cgroup: text }),
    z.strictObject({ unit: text }),
  ],
  { error: 'one of pod, labels, containerId, containerName, pid, cgroup and unit, with what belongs to it' },
);

const fileSchema = z
  .strictObject({
    /** As `exhibit capture` takes it. */
    target: text.optional(),
    selector: selectorSchema.optional(),
    captureId: text.default(''),
    artifacts: z.array(text).max(MAX_LIST).default([]),
    case: text.default(''),
    reason: text.default(''),
    consistency: z.enum(['frozen', 'live']).optional(),
    scope: z.enum(['container', 'pod']).optional(),
    sinks: z.array(text).max(MAX_LIST).default([]),
    exhibitNumber: text.default(''),
    acquirer: text.default(''),
    force: z.boolean().default(false),
  })
  .refine(({ target, selector }) => (target === undefined) !== (selector === undefined), {
    error: 'either target or selector',
  });

/**
 * A request file as the message that the socket takes, so that both are judged by the same rules.
 * @throws ExhibitError `usage` with a sentence that names the fault
 */
export function parseRequestFile(name: string, bytes: Uint8Array): CaptureRequest__Output {
  const parsed = fileSchema.safeParse(isYaml(name) ? valueOfYaml(bytes) : valueOfJson(bytes));
  if (!parsed.success) throw new ExhibitError('usage', `The request is wrong: ${faults(parsed.error)}`);
  const { target, selector, case: caseId, consistency = '', scope = '', ...rest } = parsed.data;
  const proto = selector ?? selectorToProto(parseSelector(target ?? ''));
  return { ...rest, caseId, consistency, scope, selector: proto as Selector__Output };
}

/** JSON is whole when it can be read; of YAML every beginning may be YAML as well. */
export function tellsItsEnd(name: string): boolean {
  return !isYaml(name);
}

function valueOfJson(bytes: Uint8Array): unknown {
  try {
    const value = parseJson(bytes, MAX_REQUEST_BYTES, 'The request');
    const twice = duplicateKey(bytes);
    if (twice === undefined) return value;
    throw new ExhibitError('usage', `The request has the key ${quote(twice)} twice`);
  } catch (cause) {
    throw new ExhibitError('usage', cause instanceof Error ? cause.message : 'The request is not JSON');
  }
}

function valueOfYaml(bytes: Uint8Array): unknown {
  let yaml: string;
  try {
    yaml = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new ExhibitError('usage', 'The request is not UTF-8');
  }
  try {
    const document = parseDocument(yaml, { logLevel: 'error', uniqueKeys: true });
    const [fault] = [...document.errors, ...document.warnings];
    if (fault !== undefined) throw new Error(fault.message.split('\n')[0]);
    // A request repeats nothing: aliases serve nobody but a bomb.
    return document.toJS({ maxAliasCount: 0 });
  } catch (cause) {
    throw new ExhibitError('usage', `The request is not YAML: ${quote(cause instanceof Error ? cause.message : '')}`);
  }
}

/** Enough to mend it. */
const MOST_FAULTS = 8;

function faults({ issues }: z.ZodError): string {
  const words = issues.flatMap((issue) => {
    const at = issue.path.length === 0 ? '' : `${issue.path.map(String).join('.')}: `;
    if (issue.code === 'unrecognized_keys') return issue.keys.map((key) => `${at}unknown key ${quote(key)}`);
    return [`${at}expected ${issue.message.replace(/^Invalid (input|option): expected /, '')}`];
  });
  return words.slice(0, MOST_FAULTS).join('; ');
}

/** Whatever stands in the file is shown as data, and not much of it. */
const quote = (words: string): string => JSON.stringify(words.length > 120 ? `${words.slice(0, 120)}…` : words);

/** Which file a capture is made for: the same file never makes two, and the same words in another file make another. */
export interface RequestIdentity {
  readonly node: string;
  readonly name: string;
  /** Hex, of the content. */
  readonly sha256: string;
  readonly mtimeNs: bigint;
}

/**
 * A UUIDv7 (RFC 9562) made of nothing but the file, so that an agent that died before it could write anything down finds the
 * capture in its journal. Its time is the file's. `attempt`: 0, and more when the first of them began and died before the
 * journal knew of it.
 */
export function captureIdOf({ node, name, sha256, mtimeNs }: RequestIdentity, attempt: number): string {
  const digest = createHash('sha256')
    .update(JSON.stringify([node, name, sha256, String(mtimeNs), attempt]))
    .digest();
  // Whoever sets a file's time may choose one that a UUID cannot hold.
  const ms = BigInt.asUintN(48, mtimeNs < 0n ? 0n : mtimeNs / 1_000_000n);
  return uuidv7({ msecs: Number(ms), random: digest });
}
