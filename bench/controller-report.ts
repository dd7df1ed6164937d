import type { DispatchFigure } from './controller-dispatch.ts';
import type { FloorFigure } from './controller-floor.ts';
import type { FreezeFigure } from './controller-freeze.ts';
import type { KillsFigure } from './controller-kills.ts';
import type { ProbeReading } from './controller-probe.ts';
import type { Spread } from './controller-spread.ts';

/** What was measured; parts that were not asked for are absent. */
export interface ControllerFigures {
  connectCpuMs?: number;
  idle?: {
    readonly empty: ProbeReading;
    readonly at: ProbeReading;
    readonly collected: ProbeReading;
    readonly cpu: { readonly controllerCpuMs: number; readonly wallMs: number };
  };
  dispatch?: readonly DispatchFigure[];
  storm?: {
    readonly readyMs: number;
    readonly allBackMs: number;
    readonly collected: ProbeReading;
    readonly peakMib: number;
    readonly reading: ProbeReading;
    readonly controllerCpuMs: number;
    readonly fleetCpuMs: number;
  };
  kills?: KillsFigure;
  floor?: FloorFigure;
  freeze?: FreezeFigure;
}

/** What issue 7 asks for 3,000 agents. */
const MOST_MIB = 600;
const MOST_STORM_MS = 30_000;
const MOST_DISPATCH_MS = 250;
const MOST_FREEZE_MS = 300;

const NAME_COLUMNS = 58;
const CELL_COLUMNS = 16;

const line = (name: string, ...cells: readonly string[]): string =>
  name.padEnd(NAME_COLUMNS) + cells.map((cell) => cell.padStart(CELL_COLUMNS)).join('');
const within = (value: number, most: number): string => (value <= most ? `reached (${most})` : `MISSED (${most})`);
const spread = ({ p50, p99, max }: Spread): string[] => [p50, p99, max].map((ms) => `${ms.toFixed(0)} ms`);
const mib = (value: number): string => `${value.toFixed(0)} MiB`;
const seconds = (ms: number): string => `${(ms / 1_000).toFixed(1)} s`;

export function report(agents: number, figures: ControllerFigures): string {
  return [
    ...idleLines(agents, figures),
    ...stormLines(agents, figures),
    ...dispatchLines(figures),
    ...killLines(figures),
    ...freezeLines(figures),
  ].join('\n');
}

function idleLines(agents: number, { idle, floor, connectCpuMs }: ControllerFigures): string[] {
  const lines: string[] = [];
  const each = (full: number, empty: number) => `${(((full - empty) * 1024) / agents).toFixed(0)} KiB an agent`;
  if (idle !== undefined) {
    const { empty, at, collected, cpu } = idle;
    const most = Math.max(at.rssMib, collected.rssMib);
    lines.push(line('resident without agents', mib(empty.rssMib)));
    lines.push(line(`resident with ${agents}`, mib(most), each(most, empty.rssMib), within(most, MOST_MIB)));
    lines.push(line('V8 heap, before and after a collection', mib(at.heapMib), mib(collected.heapMib)));
    lines.push(line(`CPU, idle for ${seconds(cpu.wallMs)}`, seconds(cpu.controllerCpuMs)));
  }
  if (floor !== undefined) {
    lines.push(line('bare grpc-js server: resident', mib(floor.idleMib), each(floor.idleMib, floor.emptyMib)));
    lines.push(line(`bare grpc-js server: CPU, idle for ${seconds(floor.idleMs)}`, seconds(floor.idleCpuMs)));
  }
  const perAgent = (cpuMs: number) => `${(cpuMs / agents).toFixed(2)} ms`;
  if (connectCpuMs !== undefined) lines.push(line('CPU to take in an agent', perAgent(connectCpuMs)));
  if (floor !== undefined) lines.push(line('bare grpc-js server: the same', perAgent(floor.connectCpuMs)));
  return lines;
}

function stormLines(agents: number, { storm }: ControllerFigures): string[] {
  if (storm === undefined) return [];
  const { allBackMs, peakMib, controllerCpuMs, fleetCpuMs, reading } = storm;
  return [
    line('storm: killed, until all are back', seconds(allBackMs), '', within(allBackMs, MOST_STORM_MS)),
    line('storm: peak resident', mib(peakMib), '', within(peakMib, MOST_MIB)),
    line('storm: CPU of the controller, of the agents', seconds(controllerCpuMs), seconds(fleetCpuMs)),
    line('storm: CPU an agent', `${(controllerCpuMs / agents).toFixed(2)} ms`),
    line('storm: event loop p99', `${reading.loopP99Ms.toFixed(0)} ms`),
  ];
}

function dispatchLines({ dispatch = [], floor }: ControllerFigures): string[] {
  const lines = [line('', 'p50', 'p99', 'max', 'CPU a capture')];
  for (const one of dispatch) {
    const name = `dispatch by ${one.way}, ${one.inFlight} in flight`;
    const cpu = `${(one.controllerCpuMs / one.captures).toFixed(1)} ms`;
    const verdict = one.perSecond > 0 ? within(one.received.p99, MOST_DISPATCH_MS) : '';
    lines.push(line(`${name}: answered`, ...spread(one.answered)));
    lines.push(line(`${name}: at the agent`, ...spread(one.received), cpu, verdict));
    lines.push(
      line(`${name}: event loop p99, max`, '', `${one.loopP99Ms.toFixed(0)} ms`, `${one.loopMaxMs.toFixed(0)} ms`),
    );
  }
  if (floor !== undefined) lines.push(line('bare insert and send: at the agent', ...spread(floor.received)));
  const named = dispatch.find(({ way }) => way === 'node');
  if (floor !== undefined && named !== undefined) {
    const ratio = (pick: (of: Spread) => number) => (pick(named.received) / pick(floor.received)).toFixed(1);
    lines.push(
      line(
        'by node: times the bare one',
        ratio(({ p50 }) => p50),
        ratio(({ p99 }) => p99),
      ),
    );
  }
  return lines.length === 1 ? [] : lines;
}

function killLines({ kills }: ControllerFigures): string[] {
  if (kills === undefined) return [];
  const { kills: times, requests, retries, captures, states, auditEntries, problems } = kills;
  const counted = Object.entries(states).map(([state, count]) => `${count} ${state}`);
  return [
    `${times} times killed: ${requests} requests, ${retries} retries, ${captures} captures (${counted.join(', ')}), ${auditEntries} audit entries`,
    problems.length === 0 ? 'nothing lost or doubled: reached' : `MISSED:\n${problems.join('\n')}`,
  ];
}

function freezeLines({ freeze }: ControllerFigures): string[] {
  if (freeze === undefined) return [];
  return [
    line(`trigger to freeze, ${freeze.rounds} rounds`, 'p50', 'p99', 'max'),
    line('answered to the caller', ...spread(freeze.answered)),
    line('stored as sent', ...spread(freeze.sent)),
    line('custody log begun by the agent', ...spread(freeze.requested)),
    line('accepted, as the controller heard it', ...spread(freeze.accepted)),
    line('artifact memory begun', ...spread(freeze.begun)),
    line('the guard told to freeze', ...spread(freeze.freezing)),
    line('frozen', ...spread(freeze.frozen), within(freeze.frozen.p50, MOST_FREEZE_MS)),
  ];
}
