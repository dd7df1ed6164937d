import { ExhibitError } from '../../evidence/error.ts';

/** JSON from the network, before it is parsed: valid UTF-8, and no deeper than `maxDepth`. */

const utf8 = new TextDecoder('utf-8', { fatal: true });

/** @throws ExhibitError `usage` */
export function boundedText(bytes: Uint8Array, maxDepth: number): string {
  let text: string;
  try {
    text = utf8.decode(bytes);
  } catch (cause) {
    throw new ExhibitError('usage', 'The body is not UTF-8', { cause });
  }
  if (depthOf(text, maxDepth) > maxDepth) {
    throw new ExhibitError('usage', `The body is nested deeper than ${maxDepth} levels`);
  }
  return text;
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** Brackets that are open at once, outside strings. Stops counting behind `enough`. */
function depthOf(text: string, enough: number): number {
  let depth = 0;
  let deepest = 0;
  let quoted = false;
  for (let at = 0; at < text.length && deepest <= enough; at += 1) {
    const unit = text.charCodeAt(at);
    if (quoted) {
      if (unit === BACKSLASH) at += 1;
      else if (unit === QUOTE) quoted = false;
    } else if (unit === QUOTE) quoted = true;
    else if (unit === 0x7b || unit === 0x5b) {
      depth += 1;
      deepest = Math.max(deepest, depth);
    } else if (unit === 0x7d || unit === 0x5d) depth -= 1;
  }
  return deepest;
}
