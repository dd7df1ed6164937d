/** Writes docs/openapi.json: `node controller/api/publish-openapi.ts`. A test holds the file to what the controller serves. */
import { writeFileSync } from 'node:fs';
import { openapi } from './openapi.ts';

writeFileSync(new URL('../../docs/openapi.json', import.meta.url), `${JSON.stringify(openapi(), null, 2)}\n`);
