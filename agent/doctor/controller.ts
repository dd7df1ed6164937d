import type { ControllerStatus } from '../trigger/controller.ts';
import type { ControllerTrial } from '../trigger/controller-probe.ts';
import { type Check, line } from './check.ts';
import type { Patient } from './patient.ts';

/** The controller that the agent dials: whether it can be reached, whether it takes the agent in, and for how long. */

const DAY_MS = 86_400_000;
/** A certificate that ends within this should have been renewed: `exhibit pki` and most issuers renew at two thirds of its time. */
const SOON_MS = 7 * DAY_MS;

export async function examineController({ config, tryController, controller, signal }: Patient): Promise<Check[]> {
  if (config.controller === undefined || tryController === undefined) return [];
  const trial = await tryController(signal);
  return [checkController(config.controller.address, { trial, status: controller?.(), nowMs: Date.now() })];
}

export interface ControllerFacts {
  readonly trial: ControllerTrial;
  /** Undefined where there is no agent to ask. */
  readonly status: ControllerStatus | undefined;
  readonly nowMs: number;
}

export function checkController(address: string, { trial, status, nowMs }: ControllerFacts): Check {
  const say = line('agent', 'controller');
  const away = 'no capture can be asked for through the controller, nor is it told of any; other triggers work';
  const { ownUntilMs, controllerUntilMs, why } = trial;
  if (why !== undefined) {
    const until = ownUntilMs === undefined ? '' : `; own certificate until ${dayOf(ownUntilMs)}`;
    return say.failure(
      `${address}: ${why}${until}`,
      away,
      'start the controller, or see controller.address, caFile, certFile and keyFile; docs/controller-identity.md',
    );
  }
  const certificates = `own certificate until ${dayOf(ownUntilMs)}, the controller's until ${dayOf(controllerUntilMs)}`;
  if (status !== undefined && status.upSinceMs === undefined) {
    const last = status.why === undefined ? 'there has been none yet' : `the last one: ${status.why}`;
    return say.warning(
      `${address} answers, and there is no stream to it (${last}); ${certificates}`,
      away,
      "see the agent's log and the controller's",
    );
  }
  const since = status?.upSinceMs === undefined ? '' : `, stream since ${new Date(status.upSinceMs).toISOString()}`;
  const release = status?.version === undefined ? '' : `, release ${status.version}`;
  const found = `${address} answers${since}${release}; ${certificates}`;
  if (status?.apart !== undefined)
    return say.warning(
      `${found}; ${status.apart}`,
      'nobody has tried whether the two understand each other',
      'see docs/compatibility.md',
    );
  const soon = [
    ...(isSoon(ownUntilMs, nowMs) ? ["the agent's certificate (controller.certFile)"] : []),
    ...(isSoon(controllerUntilMs, nowMs) ? ["the controller's certificate"] : []),
  ];
  if (soon.length === 0) return say.ok(found, 'captures can be asked for through it');
  return say.warning(found, `${away} when it ends, in less than 7 days`, `renew ${soon.join(' and ')}`);
}

const isSoon = (untilMs: number | undefined, nowMs: number): boolean =>
  untilMs !== undefined && untilMs - nowMs < SOON_MS;

const dayOf = (untilMs: number | undefined): string =>
  untilMs === undefined || Number.isNaN(untilMs) ? 'not known' : new Date(untilMs).toISOString();
