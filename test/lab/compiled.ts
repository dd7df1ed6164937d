/** Programs of ours that tests start again and again. */
import path from 'node:path';

/**
 * For their environment: compiling the command and its libraries is more than half of what a short command takes, and here it is
 * done once. Node keys what it keeps by content, and writes beside and renames. Not for agents: those are tried as they are shipped,
 * with the memory and the time that they take.
 */
export const COMPILED_ONCE = {
  NODE_COMPILE_CACHE: path.resolve(import.meta.dirname, '../../node_modules/.cache/compiled'),
} as const;
