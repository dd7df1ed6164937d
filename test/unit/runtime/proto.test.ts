import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { test } from 'vitest';

test('proto/gen is what the .proto files give', () => {
  const script = path.resolve(import.meta.dirname, '../../../proto/generate.ts');
  execFileSync(process.execPath, [script, '--check'], { stdio: 'pipe' });
});
