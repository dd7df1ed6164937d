/**
 * What the process that runs the agent should be started with: variables that the C library and V8 read once, at their start.
 * They keep its memory small and flat (docs/bench.md): one arena for all threads, what was freed goes back to the kernel soon, and
 * a young generation of a few MiB, since what a capture allocates most, pieces of evidence, is not on V8's heap. No limit on the old
 * generation: a container with a hundred thousand mappings would end the agent (host/heap.ts says what is done instead). The container
 * image sets them; without them the agent works all the same and takes some 60 MiB more.
 */
export const AGENT_ENVIRONMENT = {
  MALLOC_ARENA_MAX: '1',
  MALLOC_MMAP_THRESHOLD_: String(256 * 1024),
  MALLOC_TRIM_THRESHOLD_: String(1024 * 1024),
  NODE_OPTIONS: '--max-semi-space-size=4',
} as const;
