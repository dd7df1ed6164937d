import type { Field, Type } from 'protobufjs';
import protobuf from 'protobufjs';

/** JSON Schemas (draft 2020-12, as OpenAPI 3.1 has them) out of protobuf descriptors. Pure. */

export type JsonSchema = { readonly [keyword: string]: unknown };

/** A request is checked by it. A response is described by it: 64-bit numbers are always strings there. */
export type Direction = 'request' | 'response';

/** A list, or the pairs of a map, in one request: above every bound that the calls have. */
const MAX_ITEMS = 1000;
/** A note of a case is the longest text that people write here. */
const MAX_STRING_CHARS = 16_384;
const MAX_UINT32 = 2 ** 32 - 1;

/** Text of 18 digits is below 2^63; milliseconds, bytes and numbers of the log need no more. */
const WIDE_TEXT = '^\\d{1,18}$';
const WIDE_OUT = { type: 'string', pattern: '^-?\\d{1,20}$', format: 'int64' };
const WIDE_IN = {
  anyOf: [
    { type: 'string', pattern: WIDE_TEXT },
    { type: 'integer', minimum: 0, maximum: Number.MAX_SAFE_INTEGER },
  ],
};

/** Of the message's fields but `without`. `nested` tells how a message inside it is named or written out. */
export function messageSchema(
  type: Type,
  direction: Direction,
  nested: (type: Type) => JsonSchema,
  without: readonly string[] = [],
): JsonSchema {
  const fields = type.fieldsArray.filter((field) => !without.includes(field.name));
  const properties = Object.fromEntries(fields.map((field) => [field.name, fieldSchema(field, direction, nested)]));
  return { type: 'object', ...described(type.comment), properties, additionalProperties: false, ...oneOf(type) };
}

/** Every nested message written out: what validates has no references. */
export const inlineSchema = (type: Type, direction: Direction): JsonSchema =>
  messageSchema(type, direction, (inner) => inlineSchema(inner, direction));

function fieldSchema(field: Field, direction: Direction, nested: (type: Type) => JsonSchema): JsonSchema {
  field.resolve();
  const value = valueSchema(field, direction, nested);
  const bound = direction === 'request';
  if (field instanceof protobuf.MapField) {
    const most = bound ? { maxProperties: MAX_ITEMS } : {};
    return { type: 'object', additionalProperties: value, ...most, ...described(field.comment) };
  }
  if (field.repeated) {
    return { type: 'array', items: value, ...(bound ? { maxItems: MAX_ITEMS } : {}), ...described(field.comment) };
  }
  return { ...value, ...described(field.comment) };
}

function valueSchema(field: Field, direction: Direction, nested: (type: Type) => JsonSchema): JsonSchema {
  if (field.resolvedType instanceof protobuf.Type) return nested(field.resolvedType);
  if (field.resolvedType instanceof protobuf.Enum)
    return { type: 'string', enum: Object.keys(field.resolvedType.values) };
  switch (field.type) {
    case 'string':
      return { type: 'string', ...(direction === 'request' ? { maxLength: MAX_STRING_CHARS } : {}) };
    case 'bool':
      return { type: 'boolean' };
    case 'double':
      return { type: 'number' };
    case 'uint32':
      return { type: 'integer', minimum: 0, maximum: MAX_UINT32 };
    case 'int64':
    case 'uint64':
      return direction === 'request' ? WIDE_IN : WIDE_OUT;
    default:
      throw new Error(`${field.fullName} is of the type ${field.type}, which JSON has no schema for yet`);
  }
}

/** At most one field of each oneof. */
function oneOf(type: Type): JsonSchema {
  const pairs = type.oneofsArray.flatMap(({ oneof }) =>
    oneof.flatMap((one, index) =>
      oneof.slice(index + 1).map((other) => ({ not: { type: 'object', required: [one, other] } })),
    ),
  );
  return pairs.length === 0 ? {} : { allOf: pairs };
}

const described = (comment: string | null): JsonSchema =>
  comment ? { description: comment.replaceAll(/\s+/g, ' ') } : {};
