import { ExhibitError } from './error.ts';
import { ARTIFACTS, type ArtifactName, isArtifactName } from './layout.ts';

/** The words of a request for a capture, checked alike by the agent and by the controller, which both get them from outside. */

/** Room for any numbering that courts use; it goes on a printed line. */
export const EXHIBIT_NUMBER_CHARS = 100;
/** A name, a rank, an office. */
export const ACQUIRER_CHARS = 200;

export const CONSISTENCIES = ['frozen', 'live'] as const;
export const SCOPES = ['container', 'pod'] as const;

/** Of names that are none: they come from outside and may be anything. */
const SHOWN_NAMES = 5;
const SHOWN_CHARS = 60;

/** @throws ExhibitError `usage` for a name that is none */
export function readArtifacts(names: readonly string[]): readonly ArtifactName[] {
  const unknown = names.filter((name) => !isArtifactName(name));
  if (unknown.length > 0) {
    const shown = unknown.slice(0, SHOWN_NAMES).map((name) => name.slice(0, SHOWN_CHARS));
    throw new ExhibitError('usage', `There is no artifact ${shown.join(', ')}; choose among ${ARTIFACTS.join(', ')}`);
  }
  return names.filter(isArtifactName);
}

/** Undefined: the request does not say. @throws ExhibitError `usage` */
export function readConsistency(text: string): (typeof CONSISTENCIES)[number] | undefined {
  const known = CONSISTENCIES.find((one) => one === text);
  if (known === undefined && text !== '')
    throw new ExhibitError('usage', `Consistency is frozen or live, not ${JSON.stringify(text.slice(0, SHOWN_CHARS))}`);
  return known;
}

/** Undefined: the request does not say. @throws ExhibitError `usage` */
export function readScope(text: string): (typeof SCOPES)[number] | undefined {
  const known = SCOPES.find((one) => one === text);
  if (known === undefined && text !== '')
    throw new ExhibitError('usage', `Scope is container or pod, not ${JSON.stringify(text.slice(0, SHOWN_CHARS))}`);
  return known;
}

/** What ends a printed line, blanks it or turns it around. */
export const BREAKS_A_LINE = /[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/u;

/**
 * A text that ends up on a printed record: one line, that nothing in it can turn around or blank. Undefined for an empty one.
 * @throws ExhibitError `usage`
 */
export function oneLine(what: string, text: string, mostChars: number): string | undefined {
  if (text === '') return undefined;
  if (text.length > mostChars) {
    throw new ExhibitError('usage', `The ${what} is ${text.length} characters long; ${mostChars} is the most`);
  }
  const control = BREAKS_A_LINE.exec(text)?.[0];
  if (control === undefined && text.trim() !== '') return text;
  if (control === undefined) throw new ExhibitError('usage', `The ${what} is nothing but spaces`);
  const code = control.codePointAt(0)?.toString(16).toUpperCase().padStart(4, '0');
  throw new ExhibitError(
    'usage',
    `The ${what} holds the control character U+${code}; write it on one line, as plain text`,
  );
}
