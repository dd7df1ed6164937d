/**
 * The agent's side of a freeze as a program of its own, so that tests can kill it, stop it, or kill its whole cgroup:
 * `node freeze-agent.ts SPEC-AS-JSON DEADLINE-MS`. Prints `frozen` once the target stands, then waits for its end.
 */
import { startFreezer } from '../../agent/capture/freeze.ts';
import type { FreezeSpec } from '../../agent/runtime/runtime.ts';

const [spec = '', deadlineMs = ''] = process.argv.slice(2);
const freezer = await startFreezer(JSON.parse(spec) as FreezeSpec, AbortSignal.timeout(30_000));
const frozen = await freezer.freeze({ deadlineMs: Number(deadlineMs), signal: AbortSignal.timeout(30_000) });
console.log('frozen');
setInterval(() => {
  if (frozen.expired) console.log('expired');
}, 20);
