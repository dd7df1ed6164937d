import type { Type } from 'protobufjs';
import { ALERTS_PATH } from '../alerts/path.ts';
import { inputSchema, paramsSchema } from './http-calls.ts';
import { ERROR_CODES } from './http-error.ts';
import { typesOf } from './http-messages.ts';
import { pathFields, ROUTES, type Route } from './http-routes.ts';
import { type JsonSchema, messageSchema } from './http-schema.ts';

/** The API as an OpenAPI 3.1 document, made of the same descriptors that requests are checked with. Published as docs/openapi.json. */

/** Of the API, not of the program: a change that breaks callers gets another path. */
const API_VERSION = '1';

export function openapi(): JsonSchema {
  const schemas = new Map<string, JsonSchema>([['Error', ERROR]]);
  const paths: Record<string, Record<string, JsonSchema>> = {};
  for (const route of ROUTES) {
    const operations = paths[route.path] ?? {};
    operations[route.method.toLowerCase()] = operation(route, schemas);
    paths[route.path] = operations;
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'exhibit controller',
      version: API_VERSION,
      description:
        'The JSON form of the gRPC service exhibit.controller.v1.Controller. 64-bit numbers are strings in answers. ' +
        'Absent messages are left out; every other field is there.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/' }],
    security: [{ certificate: [] }, { oidc: [] }],
    tags: ['captures', 'nodes', 'cases', 'custody', 'alerts', 'service'].map((name) => ({ name })),
    paths: {
      ...paths,
      [ALERTS_PATH]: { post: ALERTS },
      '/v1/openapi.json': { get: DOCUMENT },
      '/healthz': { get: HEALTH },
    },
    components: {
      schemas: Object.fromEntries([...schemas].sort(([one], [other]) => (one < other ? -1 : 1))),
      securitySchemes: {
        certificate: { type: 'mutualTLS', description: "An operator's client certificate" },
        oidc: {
          type: 'http',
          scheme: 'bearer',
          bearerFormat: 'JWT',
          description: 'A token of an issuer that is configured',
        },
        alertSecret: {
          type: 'http',
          scheme: 'bearer',
          description: 'The secret of the source; or a header or basic, as configured',
        },
      },
      responses: {
        Error: { description: 'Refused or failed', content: json({ $ref: '#/components/schemas/Error' }) },
      },
    },
  };
}

const ERROR: JsonSchema = {
  type: 'object',
  required: ['error'],
  properties: {
    error: {
      type: 'object',
      required: ['code', 'message'],
      properties: { code: { type: 'string', enum: ERROR_CODES }, message: { type: 'string' } },
    },
  },
};

const json = (schema: JsonSchema): JsonSchema => ({ 'application/json': { schema } });
const failed = { default: { $ref: '#/components/responses/Error' } };

function operation(route: Route, schemas: Map<string, JsonSchema>): JsonSchema {
  const { response, stream, comment } = typesOf(route.call);
  const answer = reference(response, schemas);
  const description = stream
    ? 'Server-sent events: `update` with the message below as data, then `end`; `error` when it fails on the way'
    : 'Done';
  const content = stream ? { 'text/event-stream': { schema: answer } } : json(answer);
  return {
    operationId: route.call,
    tags: [route.tag],
    summary: route.summary,
    ...(comment === '' ? {} : { description: comment.replaceAll(/\s+/g, ' ') }),
    ...input(route),
    responses: { 200: { description, content }, ...failed },
  };
}

function input(route: Route): JsonSchema {
  const schema = inputSchema(route);
  const params = paramsSchema(route).properties as Record<string, JsonSchema>;
  const fields = Object.entries((schema.properties ?? {}) as Record<string, JsonSchema>);
  const inPath = pathFields(route.path).map((name) => ({ name, in: 'path', required: true, schema: params[name] }));
  const inQuery = route.method === 'GET' ? fields.map(([name, field]) => queryParameter(name, field)) : [];
  const parameters = [...inPath, ...inQuery];
  return {
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(route.method === 'POST' && fields.length > 0 ? { requestBody: { content: json(schema) } } : {}),
  };
}

/** A map is repeated `NAME=VALUE` in a query. */
function queryParameter(name: string, field: JsonSchema): JsonSchema {
  const { description, ...schema } = field;
  const pairs = { type: 'array', items: { type: 'string', pattern: '^[^=]+=' } };
  return {
    name,
    in: 'query',
    ...(description === undefined ? {} : { description }),
    schema: schema.type === 'object' ? pairs : schema,
  };
}

/** Answers stand in `components`, by the message's full name. */
function reference(type: Type, schemas: Map<string, JsonSchema>): JsonSchema {
  const name = type.fullName.replace(/^\./, '');
  if (!schemas.has(name)) {
    schemas.set(name, {});
    schemas.set(
      name,
      messageSchema(type, 'response', (inner) => reference(inner, schemas)),
    );
  }
  return { $ref: `#/components/schemas/${name}` };
}

const ALERTS: JsonSchema = {
  operationId: 'PostAlerts',
  tags: ['alerts'],
  summary: 'Hand over alerts of a configured source',
  description:
    'The payload of falcosidekick, Alertmanager or EventBridge, as the source is configured; see docs/alerts.md.',
  security: [{ alertSecret: [] }, { certificate: [] }],
  parameters: [{ name: 'source', in: 'path', required: true, schema: { type: 'string' } }],
  requestBody: { required: true, content: json({ type: ['object', 'array'] }) },
  responses: {
    202: {
      description: 'Taken; what was done with each alert, in their order',
      content: json({
        type: 'object',
        required: ['alerts'],
        properties: {
          alerts: {
            type: 'array',
            items: {
              type: 'object',
              required: ['alert', 'outcome'],
              properties: {
                alert: { type: 'string' },
                rule: { type: 'string' },
                outcome: { type: 'string' },
                target: { type: 'string' },
                captureIds: { type: 'array', items: { type: 'string' } },
                note: { type: 'string' },
              },
            },
          },
        },
      }),
    },
    ...failed,
  },
};

const DOCUMENT: JsonSchema = {
  operationId: 'GetOpenapi',
  tags: ['service'],
  summary: 'This document',
  security: [],
  responses: { 200: { description: 'OpenAPI 3.1', content: json({ type: 'object' }) } },
};

const HEALTH: JsonSchema = {
  operationId: 'Healthz',
  tags: ['service'],
  summary: 'Whether this process serves',
  security: [],
  responses: {
    200: {
      description: 'It does',
      content: json({ type: 'object', required: ['status'], properties: { status: { const: 'ok' } } }),
    },
  },
};
