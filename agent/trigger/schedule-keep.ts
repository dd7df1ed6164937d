import type { Logger } from 'pino';
import { explain } from '../../evidence/error.ts';
import type { RequestRecord, TargetRecord } from '../../evidence/manifest.ts';
import { SCHEDULE_TRIGGER } from '../capture/incidents.ts';
import { type LocalBundle, type LocalNode, listLocalBundles, removeLocalBundle } from '../sink/local-bundles.ts';
import type { ScheduleConfig } from './schedule-options.ts';

/** Which bundles of a schedule are older than it keeps, and their removal from folder sinks. */

/** In one run; more go in the next. */
const MOST_REMOVED = 100;

export interface KeeperOptions {
  /** The agent's folder sinks. */
  readonly places: readonly LocalNode[];
  /** Bundles that something still needs: one that is a baseline, since later captures name it. */
  readonly isNeeded?: ((captureId: string) => boolean) | undefined;
  readonly log: Logger;
}

/** `found`: the names of what the schedule's last run captured. */
export function createKeeper({ places, isNeeded = () => false, log }: KeeperOptions) {
  const passed = new Map<string, Set<string>>();
  return async (schedule: ScheduleConfig, found: readonly string[]): Promise<void> => {
    const { name, keep } = schedule;
    if (keep === undefined) return;
    for (const place of places) {
      const key = JSON.stringify([place.root, name]);
      const ids = passed.get(key) ?? new Set();
      passed.set(key, ids);
      try {
        const bundles = await listLocalBundles(place, (request) => isOf(request, name), ids);
        const old = surplusOf(bundles, { keep, found }).filter((captureId) => !isNeeded(captureId));
        for (const captureId of old.slice(0, MOST_REMOVED)) {
          const removed = await removeLocalBundle(place, captureId);
          if (removed)
            log.info({ schedule: name, captureId }, 'removed a bundle that is older than the schedule keeps');
          else log.warn({ schedule: name, captureId }, 'a bundle holds more than plain files: it is not removed');
        }
      } catch (error) {
        log.error({ schedule: name, error: explain(error) }, 'old bundles of a schedule are not removed');
      }
    }
  };
}

/** Made by this schedule of this agent, and by nothing else. */
function isOf({ requester, schedule }: RequestRecord, name: string): boolean {
  return requester.trigger === SCHEDULE_TRIGGER && requester.identity === name && schedule?.name === name;
}

const isGood = ({ outcome }: Pick<LocalBundle, 'outcome'>): boolean => outcome === 'complete' || outcome === 'partial';

/**
 * Pure: the ids of all bundles that are not of the newest `keep` runs of which one is good. Never the last good one of all,
 * nor that of a target which is still there. The oldest first.
 */
export function surplusOf(
  bundles: readonly LocalBundle[],
  { keep, found }: { keep: number; found: readonly string[] },
): string[] {
  const tick = ({ request }: LocalBundle) => request.schedule?.tick ?? '';
  const newestFirst = bundles.toSorted((a, b) => (tick(a) < tick(b) ? 1 : tick(a) > tick(b) ? -1 : 0));
  const runs = [...new Set(newestFirst.filter(isGood).map(tick))];
  const oldest = runs[Math.min(keep, runs.length) - 1];
  if (oldest === undefined) return [];
  const last = new Set<string>();
  const lastGood = new Set<string>();
  for (const bundle of newestFirst.filter(isGood)) {
    const name = targetName(bundle.request.target);
    if (last.size === 0 || (found.includes(name) && !last.has(name))) lastGood.add(bundle.captureId);
    last.add(name);
  }
  return newestFirst
    .filter((bundle) => tick(bundle) < oldest && !lastGood.has(bundle.captureId))
    .map(({ captureId }) => captureId)
    .reverse();
}

/** As schedule-targets.ts names it. */
const targetName = ({ pod, name }: TargetRecord): string =>
  pod === undefined ? name : `${pod.namespace}/${pod.name}/${name}`;
