import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { parseSelector, selectorToProto } from '../../agent/runtime/select.ts';
import type { Caller } from '../identity/identity.ts';
import type { Api, CallContext } from './api.ts';
import { fromJson, toJson, typesOf } from './http-messages.ts';
import { queryAsJson } from './http-query.ts';
import { fastifyPath, pathFields, ROUTES, type Route } from './http-routes.ts';
import { inlineSchema, type JsonSchema } from './http-schema.ts';
import { writeEvents } from './http-watch.ts';

/** The calls of `Controller` as routes: the same `Api` that gRPC serves. */

export interface CallParts {
  readonly api: Api;
  /** Of a request that was let in. */
  readonly callerOf: (request: FastifyRequest) => Caller;
  /** Before the body is read. @throws ExhibitError `unauthenticated` */
  readonly authenticate: (request: FastifyRequest) => Promise<void>;
}

/** In the place of `selector`: what people type, see agent/runtime/select.ts. */
const TARGET_SCHEMA: JsonSchema = {
  type: 'string',
  minLength: 1,
  maxLength: 5000,
  description:
    'The selector as text, instead of `selector`: NAMESPACE/POD, NAMESPACE/POD/CONTAINER, a container id, name:CONTAINER, ' +
    'LABEL=VALUE[,LABEL=VALUE], pid:NUMBER, cgroup:/PATH or unit:NAME.service',
};

/** The fields that do not stand in the path, as the body or the query has to be. */
export function inputSchema(route: Route): JsonSchema {
  const schema = inlineSchema(typesOf(route.call).request, 'request');
  const properties = { ...(schema.properties as Record<string, JsonSchema>) };
  for (const field of pathFields(route.path)) delete properties[field];
  if (route.call !== 'CreateCapture') return { ...schema, properties };
  return {
    ...schema,
    properties: { ...properties, target: TARGET_SCHEMA },
    not: { type: 'object', required: ['target', 'selector'] },
  };
}

export function paramsSchema(route: Route): JsonSchema {
  const fields = pathFields(route.path);
  const properties = Object.fromEntries(fields.map((name) => [name, { type: 'string', minLength: 1, maxLength: 253 }]));
  return { type: 'object', properties, required: fields, additionalProperties: false };
}

export function registerCalls(app: FastifyInstance, parts: CallParts): void {
  for (const route of ROUTES) {
    const { request: type } = typesOf(route.call);
    const part = route.method === 'GET' ? 'querystring' : 'body';
    app.route({
      method: route.method,
      url: fastifyPath(route.path),
      exposeHeadRoute: route.method === 'GET' && route.call !== 'WatchCapture',
      schema: { params: paramsSchema(route), [part]: inputSchema(route) },
      onRequest: (request) => parts.authenticate(request),
      preValidation: async (request) => {
        if (part === 'body' && request.body === undefined) request.body = {};
        if (part === 'querystring') request.query = queryAsJson(type, request.query as Record<string, unknown>);
      },
      handler: async (request, reply) => {
        const input = {
          ...((part === 'body' ? request.body : request.query) as object),
          ...(request.params as object),
        };
        const context = { caller: parts.callerOf(request), signal: hangUp(reply) };
        const message = fromJson(type, withSelector(input));
        if (route.call !== 'WatchCapture') return answer(parts.api, route.call, message, context);
        await watch(parts.api, message, context, reply);
        return reply;
      },
    });
  }
}

/** @throws ExhibitError `usage` */
function withSelector(input: object): object {
  if (!('target' in input) || typeof input.target !== 'string') return input;
  const { target, ...rest } = input;
  return { ...rest, selector: selectorToProto(parseSelector(target)) };
}

type Unary = (request: object, context: CallContext) => Promise<object>;

async function answer(api: Api, call: Exclude<keyof Api, 'WatchCapture'>, message: object, context: CallContext) {
  // The one cast of the edge: the message was built by the call's own descriptor.
  const invoke = api[call].bind(api) as unknown as Unary;
  return toJson(typesOf(call).response, await invoke(message, context));
}

/** What fails before the first update is answered with its own status. */
async function watch(api: Api, message: object, context: CallContext, reply: FastifyReply): Promise<void> {
  const { response } = typesOf('WatchCapture');
  const request = message as Parameters<Api['WatchCapture']>[0];
  const updates = api.WatchCapture(request, context)[Symbol.asyncIterator]();
  const first = await updates.next();
  reply.hijack();
  const all = async function* () {
    try {
      for (let at = first; at.done !== true; at = await updates.next()) yield toJson(response, at.value);
    } finally {
      await updates.return?.();
    }
  };
  const headers = Object.fromEntries(Object.entries(reply.getHeaders()).map(([name, value]) => [name, String(value)]));
  await writeEvents(reply.raw, headers, all(), context.signal);
}

/** Aborted when the connection goes before the answer is out. */
function hangUp(reply: FastifyReply): AbortSignal {
  const controller = new AbortController();
  reply.raw.once('close', () => {
    if (!reply.raw.writableFinished) controller.abort();
  });
  return controller.signal;
}
