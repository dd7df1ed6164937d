/** The messages of ours as protobufjs describes them, so that a later release can be held against an earlier one. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import protobuf from 'protobufjs';
import { PROTO_FOLDER } from '../../proto/load.ts';
import { RECORDED, type Release } from './recorded-call.ts';

const FILES = ['exhibit/v1/agent.proto', 'exhibit/controller/v1/controller.proto', 'exhibit/controller/v1/link.proto'];

/** With the fields' names as the files have them. */
export function currentDescriptor(): protobuf.INamespace {
  const root = new protobuf.Root();
  root.resolvePath = (_origin, target) => join(PROTO_FOLDER, target);
  root.loadSync(FILES, { keepCase: true });
  return root.toJSON();
}

const descriptorOf = (release: Release): protobuf.INamespace =>
  JSON.parse(readFileSync(join(RECORDED, release, 'proto.json'), 'utf8')) as protobuf.INamespace;

export const recordedDescriptor = descriptorOf;

/** What a peer of that release reads and writes messages with. */
export function recordedTypes(release: Release): { type(name: string): protobuf.Type } {
  const root = protobuf.Root.fromJSON(descriptorOf(release));
  return { type: (name) => root.lookupType(name) };
}

/** A string in every message of a release that is not there yet, and a member of each oneof that no present one knows. */
const FUTURE = { field: 'said_by_a_later_release', id: 20_000, member: 'what_a_later_release_says', memberId: 20_001 };

/** The present messages as a later release may have them: with more in each. */
export function laterTypes(): { encode(name: string, message: object): Buffer } {
  const descriptor = currentDescriptor();
  const grow = (namespace: protobuf.INamespace): void => {
    for (const one of Object.values(namespace.nested ?? {})) {
      if ('fields' in one) growMessage(one as protobuf.IType);
      if ('nested' in one) grow(one);
    }
  };
  grow(descriptor);
  const root = protobuf.Root.fromJSON(descriptor);
  root.resolveAll();
  return {
    encode(name, message) {
      const type = root.lookupType(name);
      return Buffer.from(type.encode(type.fromObject(inEach(type, message))).finish());
    },
  };
}

function growMessage(type: protobuf.IType): void {
  type.fields[FUTURE.field] = { type: 'string', id: FUTURE.id };
  type.fields[FUTURE.member] = { type: 'string', id: FUTURE.memberId };
  for (const oneof of Object.values(type.oneofs ?? {})) oneof.oneof.push(FUTURE.member);
}

/** The field of a later release in a message and in every one inside it. */
function inEach(type: protobuf.Type, message: object): object {
  const inside = Object.entries(message).map(([key, value]) => {
    const of = type.fields[key]?.resolvedType;
    const grown = (one: unknown) =>
      of instanceof protobuf.Type && typeof one === 'object' && one !== null ? inEach(of, one) : one;
    return [key, Array.isArray(value) ? value.map(grown) : grown(value)];
  });
  return { ...Object.fromEntries(inside), [FUTURE.field]: 'x' };
}

/** A message of which nothing is known but that it is there. */
export const laterMember = (): object => ({ [FUTURE.member]: 'x' });
