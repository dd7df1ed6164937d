/** The controller of the bench: the real process, with a probe in it, that can be killed and started again on the same store. */
import { readFileSync, rmSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { CONTROLLER_ENVIRONMENT } from '../controller/environment.ts';
import { type LabController, startController } from '../test/lab/controller.ts';
import type { ProbeReading } from './controller-probe.ts';
import { cpuMsOf } from './sink-cpu.ts';

export interface BenchController extends AsyncDisposable {
  /** Of the one that runs now. */
  readonly lab: LabController;
  read(order?: 'read' | 'gc'): Promise<ProbeReading>;
  /** With a file it ends the profile that was begun without. */
  profile(file?: string): Promise<void>;
  /** SIGKILL and a new one; resolves when that is ready. */
  killAndStart(): Promise<void>;
}

const PROBE = path.join(import.meta.dirname, 'controller-probe.ts');
/** The bench calls with one name as often as a whole organisation. */
const RATE = { read: { perSecond: 10_000, burst: 100_000 }, write: { perSecond: 10_000, burst: 100_000 } };
const OPERATORS = [
  { name: 'ada', certificate: 'ada', grants: [{ role: 'admin', clusters: ['*'], namespaces: ['*'] }] },
];

export async function startBenchController(): Promise<BenchController> {
  const socket = path.join('/tmp', `exhibit-probe-${process.pid}.sock`);
  const begin = async (after?: LabController) => {
    rmSync(socket, { force: true });
    return await startController({
      config: { identity: { operators: OPERATORS, rate: RATE } },
      env: { EXHIBIT_PROBE: socket, NODE_OPTIONS: `${CONTROLLER_ENVIRONMENT.NODE_OPTIONS} --import=${PROBE}` },
      ...(after === undefined ? {} : { after }),
    });
  };
  let lab = await begin();
  const ask = async (line: string) => {
    const connection = net.connect(socket);
    connection.write(`${line}\n`);
    return JSON.parse(await text(connection)) as ProbeReading;
  };
  return {
    get lab() {
      return lab;
    },
    read: (order = 'read') => ask(order),
    profile: async (file) => void (await ask(file === undefined ? 'profile' : `profile ${file}`)),
    killAndStart: async () => {
      await lab.kill();
      lab = await begin(lab);
    },
    async [Symbol.asyncDispose]() {
      await lab[Symbol.asyncDispose]();
      rmSync(socket, { force: true });
    },
  };
}

/** Begins to count; the answer says what was used since. */
export function cpuOver(controller: BenchController, fleet: { cpuMs(): number }) {
  const before = { controller: cpuMsOf(controller.lab.pid), fleet: fleet.cpuMs(), at: performance.now() };
  return async () => ({
    controllerCpuMs: cpuMsOf(controller.lab.pid) - before.controller,
    fleetCpuMs: fleet.cpuMs() - before.fleet,
    wallMs: performance.now() - before.at,
  });
}

/** VmRSS and VmHWM of proc(5): what is resident, and the most that ever was. */
export function memoryMibOf(pid: number): { readonly resident: number; readonly peak: number } {
  const status = readFileSync(`/proc/${pid}/status`, 'latin1');
  const mib = (field: string) => Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)?.[1]) / 1024;
  return { resident: mib('VmRSS'), peak: mib('VmHWM') };
}
