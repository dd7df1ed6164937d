/**
 * What the process that runs the controller should be started with, as `agent/environment.ts` is for the agent: one arena for all
 * threads, what was freed goes back to the kernel soon, and a young generation of a few MiB. Without them it works all the same and takes
 * some 35 MiB more.
 */
export const CONTROLLER_ENVIRONMENT = {
  MALLOC_ARENA_MAX: '1',
  MALLOC_TRIM_THRESHOLD_: String(1024 * 1024),
  NODE_OPTIONS: '--max-semi-space-size=8',
} as const;
