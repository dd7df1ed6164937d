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
