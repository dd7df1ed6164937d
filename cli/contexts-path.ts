import { homedir } from 'node:os';
import path from 'node:path';
import type { Session } from './session.ts';

/** Apart from contexts.ts, which takes a while to load: most commands only have to know that there is no such file. */
export function contextsPath(env: Session['env']): string {
  if (env.EXHIBIT_CONTEXTS) return env.EXHIBIT_CONTEXTS;
  const base = env.XDG_CONFIG_HOME || path.join(env.HOME || homedir(), '.config');
  return path.join(base, 'exhibit', 'contexts.yaml');
}
