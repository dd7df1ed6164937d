import type { Field, Type } from 'protobufjs';
import protobuf from 'protobufjs';

/**
 * What a query says as the JSON that a body would say, by the message's fields: `?pageSize=5&states=queued&states=sent&labels=app=web`.
 * Only the form changes here. What is no such number or is not in the message stays as it is, for the schema to refuse.
 */
export function queryAsJson(type: Type, query: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const entries = Object.entries(query).map(([name, value]): [string, unknown] => {
    const field = Object.hasOwn(type.fields, name) ? type.fields[name] : undefined;
    return [name, field === undefined ? value : readField(field, value)];
  });
  return Object.fromEntries(entries);
}

function readField(field: Field, value: unknown): unknown {
  if (field instanceof protobuf.MapField) return readPairs(list(value));
  if (field.repeated) return list(value).map((one) => readValue(field, one));
  return readValue(field, value);
}

function readValue({ type }: Field, value: unknown): unknown {
  if (typeof value !== 'string') return value;
  if (type === 'bool') return value === 'true' ? true : value === 'false' ? false : value;
  if (type === 'uint32') return /^\d{1,10}$/.test(value) ? Number(value) : value;
  return value;
}

/** The first `=` parts the two. A pair without one stays as it is, so that the schema refuses it. */
function readPairs(pairs: readonly unknown[]): unknown {
  const read = pairs.map((pair) => (typeof pair === 'string' ? /^([^=]+)=(.*)$/s.exec(pair) : null));
  if (read.includes(null)) return pairs;
  return Object.fromEntries(read.map((match) => [match?.[1] ?? '', match?.[2] ?? '']));
}

const list = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : [value]);
