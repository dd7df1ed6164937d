/** Both configurations as JSON Schema of what may be written, so that a later release can be held against an earlier one. */
import { z } from 'zod';
import { oneSinkSchema, severalSinksSchema } from '../../agent/config.ts';
import { configSchema } from '../../controller/config.ts';
import type { Json } from './schema-changes.ts';

export function configSchemas(): Json {
  const written = (schema: z.ZodType) => z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' });
  const all = {
    agent: written(oneSinkSchema),
    agentWithSeveralSinks: written(severalSinksSchema),
    controller: written(configSchema),
  };
  return JSON.parse(JSON.stringify(all)) as Json;
}
