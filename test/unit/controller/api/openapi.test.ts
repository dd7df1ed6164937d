import { readFileSync } from 'node:fs';
import path from 'node:path';
import { Validator } from '@seriousme/openapi-schema-validator';
import { describe, expect, test } from 'vitest';
import { callTypes } from '../../../../controller/api/http-messages.ts';
import { ROUTES } from '../../../../controller/api/http-routes.ts';
import { openapi } from '../../../../controller/api/openapi.ts';

const PUBLISHED = path.resolve(import.meta.dirname, '../../../../docs/openapi.json');

describe('the OpenAPI document', () => {
  test('is one, says an independent validator', async () => {
    const document = openapi();
    const result = await new Validator().validate(structuredClone(document));
    expect(result).toEqual({ valid: true });
    expect(document.openapi).toBe('3.1.0');
  });

  test('is what docs/openapi.json holds', () => {
    expect(JSON.parse(readFileSync(PUBLISHED, 'utf8'))).toEqual(JSON.parse(JSON.stringify(openapi())));
  });

  test('has one route for each call of the service, and no other', () => {
    expect(ROUTES.map(({ call }) => call as string).sort()).toEqual([...callTypes().keys()].sort());
    const places = ROUTES.map(({ method, path: route }) => `${method} ${route}`);
    expect(new Set(places).size).toBe(ROUTES.length);
  });

  test('carries the comments of the .proto file as descriptions', () => {
    const { paths, components } = openapi() as {
      paths: Record<
        string,
        Record<
          string,
          {
            description?: string;
            requestBody?: {
              content: Record<string, { schema: { properties: Record<string, { description?: string }> } }>;
            };
          }
        >
      >;
      components: { schemas: Record<string, { properties: Record<string, { description?: string; type?: string }> }> };
    };
    expect(paths['/v1/captures']?.post?.description).toBe(
      'One target, or every one that matches over the clusters. Stored before anything is sent.',
    );
    const body = paths['/v1/captures']?.post?.requestBody?.content['application/json']?.schema.properties;
    expect(body?.clusters?.description).toBe('Empty: every cluster in which the caller may capture.');
    const captures = components.schemas['exhibit.controller.v1.ControlledCapture']?.properties;
    expect(captures?.createdAtMs).toMatchObject({ type: 'string' });
    expect(captures?.selector?.description).toBe('The selector as text: prod/web-0/app.');
  });
});
