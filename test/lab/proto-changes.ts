/** What a later descriptor takes away from an earlier one. Pure. docs/compatibility.md has the rules. */
import type protobuf from 'protobufjs';

type Namespace = protobuf.INamespace;
type Node = protobuf.AnyNestedObject;

/** Each breach as a sentence; none for a later release that only adds. */
export function protoBreaks(before: Namespace, after: Namespace, at = ''): string[] {
  return Object.entries(before.nested ?? {}).flatMap(([name, one]) => {
    const where = at === '' ? name : `${at}.${name}`;
    const other = after.nested?.[name];
    if (other === undefined) return [`${where} is gone`];
    return nodeBreaks(where, one, other);
  });
}

function nodeBreaks(where: string, before: Node, after: Node): string[] {
  const inside = 'nested' in before ? protoBreaks(before, after as Namespace, where) : [];
  if ('fields' in before) {
    if (!('fields' in after)) return [`${where} is no message any more`];
    return [...messageBreaks(where, before as protobuf.IType, after as protobuf.IType), ...inside];
  }
  if ('methods' in before) {
    if (!('methods' in after)) return [`${where} is no service any more`];
    return [...serviceBreaks(where, before as protobuf.IService, after as protobuf.IService), ...inside];
  }
  if ('values' in before) {
    if (!('values' in after)) return [`${where} is no enum any more`];
    return enumBreaks(where, before as protobuf.IEnum, after as protobuf.IEnum);
  }
  return inside;
}

function messageBreaks(where: string, before: protobuf.IType, after: protobuf.IType): string[] {
  const byId = new Map(Object.entries(after.fields).map(([name, field]) => [field.id, name]));
  const fields = Object.entries(before.fields).flatMap(([name, field]) => {
    const other = after.fields[name];
    if (other === undefined) return removedField(where, name, field, after, byId.get(field.id));
    const [was, is] = [kindOf(field), kindOf(other)];
    const changed = was === is ? [] : [`${where}.${name} was ${was} and is ${is}`];
    const moved = oneofOf(before, name) === oneofOf(after, name) ? [] : [`${where}.${name} is in another oneof`];
    const number = field.id === other.id ? [] : [`${where}.${name} had number ${field.id} and has ${other.id}`];
    return [...number, ...changed, ...moved];
  });
  return [...fields, ...reservedBreaks(where, before, after)];
}

function removedField(
  where: string,
  name: string,
  { id }: protobuf.IField,
  after: protobuf.IType,
  takenBy: string | undefined,
): string[] {
  if (takenBy !== undefined) return [`${where}.${name} is gone and its number ${id} is that of ${takenBy}`];
  const { numbers, names } = reservedOf(after);
  const missing = [
    ...(numbers.some(([from, to]) => from <= id && id <= to) ? [] : [`number ${id}`]),
    ...(names.includes(name) ? [] : [`name ${name}`]),
  ];
  return missing.length === 0 ? [] : [`${where}.${name} is gone and its ${missing.join(' and ')} not reserved`];
}

/** What was reserved stays so, or a peer that is older still would read one thing for another. */
function reservedBreaks(where: string, before: protobuf.IType, after: protobuf.IType): string[] {
  const is = reservedOf(after);
  const was = reservedOf(before);
  const isKept = ([from, to]: readonly [number, number]) => is.numbers.some(([f, t]) => f <= from && to <= t);
  return [
    ...was.numbers.filter((one) => !isKept(one)).map(([from, to]) => `${where} reserves ${from}-${to} no more`),
    ...was.names.filter((name) => !is.names.includes(name)).map((name) => `${where} reserves ${name} no more`),
  ];
}

function reservedOf({ reserved = [] }: { reserved?: readonly (number[] | string)[] }) {
  const numbers = reserved.flatMap((one) => (typeof one === 'string' ? [] : [[one[0] ?? 0, one[1] ?? 0] as const]));
  return { numbers, names: reserved.filter((one) => typeof one === 'string') };
}

function kindOf(field: protobuf.IField): string {
  const keyType = 'keyType' in field ? `map<${String(field.keyType)}> ` : '';
  const rule = field.rule === undefined ? '' : `${field.rule} `;
  return `${keyType}${rule}${field.type}`;
}

const oneofOf = ({ oneofs = {} }: protobuf.IType, field: string): string | undefined =>
  Object.entries(oneofs).find(([, { oneof }]) => oneof.includes(field))?.[0];

function serviceBreaks(where: string, before: protobuf.IService, after: protobuf.IService): string[] {
  return Object.entries(before.methods).flatMap(([name, method]) => {
    const other = after.methods[name];
    if (other === undefined) return [`${where}.${name} is gone`];
    const [was, is] = [callOf(method), callOf(other)];
    return was === is ? [] : [`${where}.${name} was ${was} and is ${is}`];
  });
}

function callOf({ requestType, responseType, requestStream, responseStream }: protobuf.IMethod): string {
  const stream = (is: boolean | undefined) => (is ? 'stream ' : '');
  return `(${stream(requestStream)}${requestType}) returns (${stream(responseStream)}${responseType})`;
}

function enumBreaks(where: string, before: protobuf.IEnum, after: protobuf.IEnum): string[] {
  return Object.entries(before.values).flatMap(([name, value]) => {
    const other = after.values[name];
    if (other === undefined) return [`${where}.${name} is gone`];
    return other === value ? [] : [`${where}.${name} was ${value} and is ${other}`];
  });
}
