/**
 * Loaded into the controller's process by `--import`, so that the bench can ask it for what only the process knows. Answers one line
 * on the Unix socket `EXHIBIT_PROBE`: `read`, `gc` (collects garbage first), `profile` (begins), `profile FILE` (ends).
 */
import { writeFileSync } from 'node:fs';
import { Session } from 'node:inspector/promises';
import net from 'node:net';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import v8 from 'node:v8';
import vm from 'node:vm';

export interface ProbeReading {
  readonly rssMib: number;
  readonly heapMib: number;
  /** Buffers and what else V8 counts outside of its heap. */
  readonly externalMib: number;
  readonly cpuMs: number;
  /** Of the event loop since the last reading. */
  readonly loopP99Ms: number;
  readonly loopMaxMs: number;
}

const MIB = 2 ** 20;
const delay = monitorEventLoopDelay({ resolution: 5 });
delay.enable();
let profiling: Session | undefined;

function collect(): void {
  v8.setFlagsFromString('--expose-gc');
  (vm.runInNewContext('gc') as () => void)();
}

function read(): ProbeReading {
  const { rss, heapUsed, external } = process.memoryUsage();
  const { user, system } = process.cpuUsage();
  const reading = {
    ...{ rssMib: rss / MIB, heapMib: heapUsed / MIB, externalMib: external / MIB, cpuMs: (user + system) / 1_000 },
    ...{ loopP99Ms: delay.percentile(99) / 1e6, loopMaxMs: delay.max / 1e6 },
  };
  delay.reset();
  return reading;
}

async function profile(file: string | undefined): Promise<void> {
  if (file === undefined) {
    profiling = new Session();
    profiling.connect();
    await profiling.post('Profiler.enable');
    await profiling.post('Profiler.start');
    return;
  }
  const taken = await profiling?.post('Profiler.stop');
  if (taken !== undefined) writeFileSync(file, JSON.stringify(taken.profile));
  profiling?.disconnect();
  profiling = undefined;
}

const server = net.createServer((socket) => {
  socket.on('error', () => undefined);
  socket.once('data', (line) => {
    const [order, file] = line.toString().trim().split(' ');
    if (order === 'gc') collect();
    const done = order === 'profile' ? profile(file) : Promise.resolve();
    void done.then(() => socket.end(JSON.stringify(read())));
  });
});
// The controller closes what it opened; this must not keep it.
if (process.env.EXHIBIT_PROBE !== undefined) server.listen(process.env.EXHIBIT_PROBE).unref();
