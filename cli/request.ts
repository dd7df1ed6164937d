import type { Scope, Selector } from '../agent/runtime/runtime.ts';
import { selectorToProto } from '../agent/runtime/select.ts';
import { ExhibitError } from '../evidence/error.ts';
import { ARTIFACTS, type ArtifactName, isArtifactName } from '../evidence/layout.ts';
import type { CaptureRequest } from '../proto/gen/exhibit/v1/CaptureRequest.ts';

/** What a person asked for on the command line, as commander gives it. */
export interface CaptureOptions {
  readonly case?: string;
  readonly reason?: string;
  readonly artifacts?: readonly ArtifactName[];
  readonly container?: string;
  readonly id?: string;
  readonly consistency?: 'frozen' | 'live';
  readonly scope?: Scope;
  readonly sink?: readonly string[];
  readonly exhibit?: string;
  readonly acquirer?: string;
  readonly force?: boolean;
}

/** The message for the agent. */
export function captureRequest(
  selector: Selector,
  options: CaptureOptions & { readonly captureId: string },
): CaptureRequest {
  return {
    captureId: options.captureId,
    selector: selectorToProto(withContainer(selector, options.container)),
    artifacts: [...(options.artifacts ?? [])],
    caseId: options.case ?? '',
    reason: options.reason ?? '',
    consistency: options.consistency ?? '',
    scope: options.scope ?? '',
    sinks: [...(options.sink ?? [])],
    exhibitNumber: options.exhibit ?? '',
    acquirer: options.acquirer ?? '',
    ...(options.force === true ? { force: true } : {}),
  };
}

/** `selector` narrowed by `--container`. Fails with `usage` where that contradicts the target or means nothing. */
export function withContainer(selector: Selector, container: string | undefined): Selector {
  if (container === undefined) return selector;
  if (selector.kind !== 'pod' && selector.kind !== 'labels') {
    throw new ExhibitError(
      'usage',
      '--container goes with a pod or with labels, and this target already is one thing: leave --container out.',
    );
  }
  if (selector.container !== undefined && selector.container !== container) {
    throw new ExhibitError(
      'usage',
      `The target names the container ${selector.container} and --container names ${container}: give only one of them.`,
    );
  }
  return { ...selector, container };
}

/** `memory,logs` as artifact names, each once, in the order given. */
export function parseArtifacts(text: string): ArtifactName[] {
  const names = text
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '');
  const unknown = names.filter((name) => !isArtifactName(name));
  if (unknown.length > 0 || names.length === 0) {
    const what = names.length === 0 ? '--artifacts names nothing' : `There is no artifact ${unknown.join(', ')}`;
    throw new ExhibitError('usage', `${what}: choose from ${ARTIFACTS.join(', ')}.`);
  }
  return [...new Set(names.filter(isArtifactName))];
}

/** `--sink` again and again, or names with commas: each once, in the order given. Which there are the agent knows. */
export function parseSinks(text: string, before: readonly string[] = []): string[] {
  const names = text.split(',').map((name) => name.trim());
  if (names.some((name) => name === '')) {
    throw new ExhibitError('usage', '--sink wants names of sinks of the agent, as its configuration has them.');
  }
  return [...new Set([...before, ...names])];
}

/** RFC 9562, in lower case as the agent keeps it. Version 7 sorts by time; `uuidgen` makes others, which work too. */
export function parseCaptureId(text: string): string {
  const id = text.toLowerCase();
  if (!/^[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(id)) {
    throw new ExhibitError('usage', `${text} is not a UUID: leave --id out, or give one made by uuidgen.`);
  }
  return id;
}

/** Names with commas, each once. */
export function parseNames(text: string): string[] {
  const names = text.split(',').map((name) => name.trim());
  if (names.some((name) => name === ''))
    throw new ExhibitError('usage', `${JSON.stringify(text)} is not a list of names.`);
  return [...new Set(names)];
}

export function parseCount(text: string): number {
  if (!/^[1-9][0-9]{0,5}$/.test(text))
    throw new ExhibitError('usage', `${text} is not a whole number from 1 to 999999.`);
  return Number(text);
}
