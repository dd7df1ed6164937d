import path from 'node:path';
import protobuf from 'protobufjs';
import { LOADER_OPTIONS, PROTO_FOLDER } from '../../proto/load.ts';
import type { CallName } from './http-routes.ts';

/** The messages of controller.proto as descriptors: what is JSON here is what gRPC carries, by the same definition. */

export interface CallTypes {
  readonly request: protobuf.Type;
  readonly response: protobuf.Type;
  readonly stream: boolean;
  /** The comment above the call; empty without one. */
  readonly comment: string;
}

let loaded: ReadonlyMap<string, CallTypes> | undefined;

/** Every call of the service by its name. One parse a process. */
export function callTypes(): ReadonlyMap<string, CallTypes> {
  loaded ??= load();
  return loaded;
}

export function typesOf(call: CallName): CallTypes {
  const types = callTypes().get(call);
  if (types === undefined) throw new Error(`controller.proto has no call ${call}`);
  return types;
}

function load(): ReadonlyMap<string, CallTypes> {
  const root = new protobuf.Root();
  root.resolvePath = (_origin, target) => path.join(PROTO_FOLDER, target);
  // Comments with two slashes are the documentation of ours.
  root.loadSync('exhibit/controller/v1/controller.proto', { keepCase: false, alternateCommentMode: true });
  root.resolveAll();
  const service = root.lookupService('exhibit.controller.v1.Controller');
  return new Map(
    service.methodsArray.map((method) => {
      const { resolvedRequestType: request, resolvedResponseType: response } = method;
      if (request === null || response === null) throw new Error(`${method.name} has a message that is not defined`);
      return [
        method.name,
        { request, response, stream: method.responseStream === true, comment: method.comment ?? '' },
      ];
    }),
  );
}

/** JSON that the schema let through, as the message that gRPC would have read: every field is there. */
export function fromJson(type: protobuf.Type, json: object): object {
  return type.toObject(type.fromObject(json), LOADER_OPTIONS);
}

/** As the response goes out: 64-bit numbers are strings, fields without a value have their default, absent messages are left out. */
export function toJson(type: protobuf.Type, message: object): object {
  const object = type.toObject(type.fromObject(message), { ...LOADER_OPTIONS, oneofs: false });
  return withoutNulls(object) as object;
}

function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (typeof value !== 'object' || value === null) return value;
  const kept = Object.entries(value).filter(([, field]) => field !== null);
  return Object.fromEntries(kept.map(([name, field]) => [name, withoutNulls(field)]));
}
