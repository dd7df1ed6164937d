import { ExhibitError } from '../../evidence/error.ts';
import type { Config } from '../config.ts';
import type { Daemon } from '../host/daemon.ts';
import type { Host } from '../host/host.ts';
import type { Runtime, RuntimeDescription, RuntimeIdentity } from '../runtime/runtime.ts';
import type { Trial } from '../sign/trial.ts';
import type { NamedSink } from '../sink/several.ts';
import type { Sink } from '../sink/sink.ts';
import type { ControllerStatus } from '../trigger/controller.ts';
import type { ControllerTrial } from '../trigger/controller-probe.ts';
import type { ExitStatus } from '../trigger/exit.ts';
import type { ScheduleStatus } from '../trigger/schedule.ts';

/** Whom the doctor examines. */
export interface Patient {
  readonly config: Config;
  readonly host: Host;
  readonly runtime: Runtime;
  readonly sinks: readonly NamedSink[];
  /** Key of an object that this agent has stored in a sink; undefined when it knows of none. */
  readonly storedKey: (sink: Sink) => string | undefined;
  /** The sinks that captures wait for, a list for each capture; absent where no agent runs. */
  readonly waiting?: () => readonly (readonly string[])[];
  /** How the schedules stand; absent where no agent runs. */
  readonly schedules?: () => readonly ScheduleStatus[];
  /** How the ends of containers are followed; absent where no agent runs. */
  readonly exits?: () => ExitStatus | undefined;
  /** Dials the controller of the configuration; absent where there is none. */
  readonly tryController?: ((signal: AbortSignal) => Promise<ControllerTrial>) | undefined;
  /** How the agent's own stream stands; absent where no agent runs. */
  readonly controller?: () => ControllerStatus | undefined;
  readonly signal: AbortSignal;
}

/** What more than one examination needs; each is asked once, and a failure is told by whoever awaits it. */
export interface Shared {
  readonly identity: Promise<RuntimeIdentity>;
  readonly description: Promise<RuntimeDescription | undefined>;
  readonly daemons: Promise<readonly Daemon[]>;
  /** Every sink after it was tried. */
  readonly stores: Promise<
    readonly { readonly name: string; readonly url: string; readonly why: string | undefined }[]
  >;
  readonly authorities: Promise<readonly Trial[]>;
}

/** After the signal, for whoever has better words than "no answer". */
const GRACE_MS = 500;

/** `work`, or `cancelled` some time after the signal: for what may not look at the signal, or cannot be called off. */
export async function inTime<Value>(work: Promise<Value>, signal: AbortSignal, graceMs = GRACE_MS): Promise<Value> {
  const overdue = Promise.withResolvers<never>();
  const end = () => {
    const late = new ExhibitError('cancelled', 'there was no answer in time');
    setTimeout(() => overdue.reject(late), graceMs);
  };
  if (signal.aborted) end();
  else signal.addEventListener('abort', end, { once: true });
  try {
    return await Promise.race([work, overdue.promise]);
  } finally {
    signal.removeEventListener('abort', end);
  }
}
