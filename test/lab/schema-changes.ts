/** What a later JSON Schema or OpenAPI document takes away from an earlier one. Pure. docs/compatibility.md has the rules. */

export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };
type JsonObject = { readonly [key: string]: Json };

/** Words for people, and the API's own number, which has a path of its own. */
const WORDS = ['description', 'summary', 'title', 'example', 'examples', '$schema', 'tags'];

const isObject = (value: Json | undefined): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/**
 * Each breach as a sentence. Paths, methods, fields, names of an enum and ways of `anyOf` may be added and never taken away; what
 * was optional stays so; a bound may become wider, never narrower.
 */
export function schemaBreaks(before: Json, after: Json | undefined, at = '#'): string[] {
  if (after === undefined) return [`${at} is gone`];
  if (Array.isArray(before)) return listBreaks(before, after, at);
  if (!isObject(before)) return before === after ? [] : [`${at} was ${show(before)} and is ${show(after)}`];
  if (!isObject(after)) return [`${at} is another kind of thing`];
  const kept = Object.entries(before).flatMap(([key, value]) => {
    if (WORDS.includes(key) && typeof value !== 'object') return [];
    const where = `${at}/${key}`;
    const other = after[key];
    if (key === 'required') return [];
    if (isBound(key, value)) return boundBreaks(key, value, other, where);
    if (key === 'default') return other === undefined || show(other) === show(value) ? [] : [`${where} is another`];
    return schemaBreaks(value, other, where);
  });
  return [...kept, ...narrowed(before, after, at)];
}

function listBreaks(before: readonly Json[], after: Json, at: string): string[] {
  if (!Array.isArray(after)) return [`${at} is no list any more`];
  const others: readonly Json[] = after;
  return before
    .filter((one) => !others.some((other) => schemaBreaks(one, other).length === 0))
    .map((one) => `${at} has no ${show(one)} any more`);
}

/** A field that has to be there now, or a bound where there was none. */
function narrowed(before: JsonObject, after: JsonObject, at: string): string[] {
  const list = (value: Json | undefined): readonly Json[] => (Array.isArray(value) ? value : []);
  const isAnswer = /\/responses\//.test(at);
  // Of answers it is a promise, and may only grow; of what is asked it is a duty, and may only shrink.
  const [few, many] = isAnswer ? [before, after] : [after, before];
  const wanting = isSchema(before)
    ? list(few.required).filter((name) => !list(many.required).includes(name))
    : ([] as readonly Json[]);
  const required = wanting.map((name) => `${at}/${String(name)} is ${isAnswer ? 'not promised' : 'required'} now`);
  const bounds = Object.entries(after).filter(([key, value]) => isBound(key, value) && before[key] === undefined);
  return [...required, ...(isSchema(before) ? bounds.map(([key]) => `${at}/${key} is a new bound`) : [])];
}

const isSchema = (value: JsonObject): boolean => ['type', 'properties', 'anyOf'].some((key) => key in value);

const LEAST = ['minimum', 'exclusiveMinimum', 'minLength', 'minItems'];
const MOST = ['maximum', 'exclusiveMaximum', 'maxLength', 'maxItems'];

const isBound = (key: string, value: Json): value is number =>
  typeof value === 'number' && (LEAST.includes(key) || MOST.includes(key));

function boundBreaks(key: string, was: number, is: Json | undefined, at: string): string[] {
  if (is === undefined) return [];
  if (typeof is !== 'number') return [`${at} is no number any more`];
  return (LEAST.includes(key) ? is > was : is < was) ? [`${at} was ${was} and is ${is}`] : [];
}

const show = (value: Json): string => {
  const text = JSON.stringify(value);
  return text.length <= 80 ? text : `${text.slice(0, 77)}...`;
};
