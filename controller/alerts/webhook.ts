import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import { ExhibitError, isExhibitError } from '../../evidence/error.ts';
import type { Api } from '../api/api.ts';
import { HttpRefusal } from '../api/http-error.ts';
import { fastifyPath } from '../api/http-routes.ts';
import { credentialsOf } from '../api/http-server.ts';
import type { Identity } from '../identity/identity.ts';
import { createBuckets } from '../identity/rate.ts';
import type { Store } from '../store/store.ts';
import { type Alert, inner } from './alert.ts';
import { readAlertmanager } from './alertmanager.ts';
import type { AlertsConfig, SourceConfig } from './config.ts';
import { readFalco } from './falco.ts';
import { readGuardDuty } from './guardduty.ts';
import { actorOf, createIntake, type Outcome } from './intake.ts';
import { createLedger } from './ledger.ts';
import { createLine } from './line.ts';
import { ALERTS_PATH } from './path.ts';
import { createSecretCheck, type SecretCheck, SecretFileError, unauthenticated } from './secret.ts';
import { shown } from './template.ts';

export { type AlertsConfig, alertsSchema } from './config.ts';

/** `POST /v1/alerts/{source}`: what falcosidekick, Alertmanager and EventBridge send. Answers soon, whatever has to be asked of agents. */

export interface WebhookParts {
  readonly api: Api;
  readonly identity: Identity;
  readonly store: Pick<Store, 'claim' | 'spend' | 'appendAudit'>;
  readonly alerts: AlertsConfig;
  readonly log: Logger;
  readonly now?: () => number;
}

/** EventBridge's events have up to 256 KiB; a group of Alertmanager with 100 alerts has about as much. */
const MAX_BODY_BYTES = 1024 * 1024;
const MAX_ALERTS = 100;
/** Of all sources. Each asks agents. */
const AT_ONCE = 8;
const MOST_WAITING = 500;
/** EventBridge gives up after 5 s, and Alertmanager and falcosidekick would send again. */
const ANSWER_MS = 3_000;
/** Of one source. The burst is a rule that goes off on a whole cluster at once. */
const REQUESTS = { perSecond: 50, burst: 200 };
/** For those whom the line has no room for. */
const RETRY_SECONDS = 5;
/** What waits when the controller stops has this long. */
const DRAIN_MS = 5_000;

const READERS: Readonly<Record<SourceConfig['kind'], (body: unknown, source: SourceConfig) => Alert[]>> = {
  falco: readFalco,
  alertmanager: readAlertmanager,
  guardduty: readGuardDuty,
};

export function registerAlerts(app: FastifyInstance, parts: WebhookParts): AsyncDisposable {
  const { alerts, log, now = Date.now } = parts;
  const ledger = createLedger(parts.store, log, now);
  const intake = createIntake({ ...parts, ledger, now });
  const line = createLine(AT_ONCE, MOST_WAITING);
  const stopping = new AbortController();
  const underway = new Set<Promise<unknown>>();
  const rate = createBuckets(REQUESTS, now);
  const sources = new Map(
    Object.entries(alerts.sources).map(([name, config]) => {
      const check = createSecretCheck(config.secret, parts.identity);
      return [name, { name, config, check }] as const;
    }),
  );

  // An address that shows wrong secrets is not shut out: an intruder on a node could silence Falco so.
  const enter = async (request: FastifyRequest): Promise<void> => {
    const source = sources.get((request.params as { source: string }).source);
    try {
      if (source === undefined) throw unauthenticated();
      await verify(source.check, request, log);
    } catch (error) {
      if (isExhibitError(error, 'unauthenticated')) {
        const peer = request.raw.socket.remoteAddress ?? 'unknown';
        ledger.note({ actor: actorOf(source?.name ?? 'unknown', ''), action: 'access.denied', details: { peer } });
      }
      throw error;
    }
    const seconds = rate.take(source.name);
    if (seconds > 0) throw flooded(source.name, 'requests', seconds);
  };
  const flooded = (source: string, what: string, seconds = RETRY_SECONDS): ExhibitError => {
    ledger.note({ actor: actorOf(source, ''), action: 'alert.flooded', details: { what } });
    return new ExhibitError('rate-limited', `Too many alerts at once; send this again in ${seconds} s`);
  };
  const take = (alert: Alert, source: string): Promise<readonly Outcome[]> => {
    const work = line.enter(() => intake.handle(alert, source, stopping.signal));
    if (work === undefined) throw flooded(source, 'alerts that wait');
    underway.add(work);
    void work.finally(() => underway.delete(work));
    return work;
  };

  app.post(fastifyPath(ALERTS_PATH), { bodyLimit: MAX_BODY_BYTES, onRequest: enter }, async (request, reply) => {
    const source = sources.get((request.params as { source: string }).source);
    if (source === undefined) throw unauthenticated();
    const count = countOf(request.body);
    if (count > MAX_ALERTS) {
      ledger.note({
        actor: actorOf(source.name, ''),
        action: 'alert.flooded',
        details: { what: `${count} in one request` },
      });
      throw new HttpRefusal(413, 'usage', `${count} alerts in one request; ${MAX_ALERTS} is the most`);
    }
    const read = READERS[source.config.kind](request.body, source.config);
    if (line.waiting + read.length > MOST_WAITING) throw flooded(source.name, 'alerts that wait');
    const late = deadline(ANSWER_MS);
    const outcomes = await Promise.all(
      read.map((alert) => {
        const pending: Outcome[] = [{ alert: shown(alert.id), outcome: 'pending' }];
        return Promise.race([take(alert, source.name), late.over.then(() => pending)]);
      }),
    );
    late.cancel();
    const told = outcomes.flat();
    return reply.code(told.some(({ outcome }) => outcome === 'failed') ? 503 : 202).send({ alerts: told });
  });

  return {
    [Symbol.asyncDispose]: async () => {
      const late = deadline(DRAIN_MS);
      await Promise.race([Promise.allSettled(underway), late.over]);
      late.cancel();
      if (underway.size > 0) log.warn({ alerts: underway.size }, 'stopped before these alerts were handled');
      stopping.abort();
      await ledger[Symbol.asyncDispose]();
    },
  };
}

/** How many alerts a body claims to have, without reading them. */
function countOf(body: unknown): number {
  const list = Array.isArray(body) ? body : inner(body).alerts;
  return Array.isArray(list) ? list.length : 1;
}

async function verify(check: SecretCheck, request: FastifyRequest, log: Logger): Promise<void> {
  try {
    await check.verify(request.headers, credentialsOf(request.raw));
  } catch (error) {
    const cause = error instanceof Error ? error.cause : undefined;
    if (!(cause instanceof SecretFileError)) throw error;
    log.error({ path: cause.path, err: cause.cause }, 'the secret of a source of alerts cannot be read');
    throw new ExhibitError('internal', "The secret of this source cannot be read; the controller's log says why");
  }
}

function deadline(ms: number): { readonly over: Promise<void>; cancel(): void } {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  return { over: promise, cancel: () => clearTimeout(timer) };
}
