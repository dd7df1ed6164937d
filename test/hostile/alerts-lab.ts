import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach } from 'vitest';
import { type AlertsConfig, alertsSchema } from '../../controller/alerts/config.ts';
import type { Api } from '../../controller/api/api.ts';
import type { NewAudit } from '../../controller/store/store.ts';
import { type FakeApi, fakeApi } from '../lab/fake-api.ts';
import { type HttpLab, memoryStore, startHttpLab } from '../lab/http-controller.ts';

/** A controller that takes webhooks, and curl to send them. */

export const SECRET = 'falco-secret-0123456789';
export const sample = (name: string): Record<string, unknown> =>
  JSON.parse(readFileSync(path.join(import.meta.dirname, `../unit/fixtures/alerts/${name}.json`), 'utf8'));

/** Of the test that runs. */
export let folder: string;
export let secretFile: string;

/** Gives each test of the file a folder with the secret of all sources. */
export function eachWithSecret(): void {
  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'exhibit-alerts-'));
    secretFile = path.join(folder, 'secret');
    await writeFile(secretFile, `${SECRET}\n`);
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));
}

export const grants = [{ clusters: ['prod'], namespaces: ['shop'] }];
/** The samples' time, so that none of them is old. */
const now = () => Date.parse('2026-11-20T10:00:30Z');

export function config(more: object = {}, rule: object = { name: 'shells', do: { capture: {} } }): AlertsConfig {
  return alertsSchema.parse({
    sources: {
      falco: { kind: 'falco', cluster: 'prod', secret: { bearerFile: secretFile }, grants },
      prometheus: {
        kind: 'alertmanager',
        clusterFrom: 'cluster',
        secret: { basicUser: 'am', file: secretFile },
        grants,
      },
      aws: {
        kind: 'guardduty',
        clusterNames: { 'shop-eks': 'prod' },
        secret: { header: 'x-api-key', file: secretFile },
        grants,
      },
      sidecar: { kind: 'falco', cluster: 'prod', secret: { certificate: 'alice' }, grants },
    },
    rules: [rule],
    ...more,
  });
}

interface Told {
  readonly status: number;
  readonly headers: Headers;
  readonly body: {
    alerts?: { outcome: string; target?: string; captureIds?: string[]; note?: string }[];
    error?: { code: string; message: string };
  };
}

export async function send(
  lab: HttpLab,
  source: string,
  body: unknown,
  headers: Record<string, string> = { authorization: `Bearer ${SECRET}` },
): Promise<Told> {
  const file = path.join(folder, `body-${Math.random().toString(36).slice(2)}`);
  await writeFile(file, typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body));
  const lines = Object.entries(headers).flatMap(([name, value]) => ['--header', `${name}: ${value}`]);
  const fixed = ['--include', '--header', 'content-type: application/json', '--header', 'expect:'];
  const { text } = await lab.curl(...fixed, ...lines, '--data-binary', `@${file}`, lab.url(`/v1/alerts/${source}`));
  const [head = '', content = ''] = text.split('\r\n\r\n');
  const [line = '', ...rest] = head.split('\r\n');
  const found = new Headers(
    rest.map((one): [string, string] => [one.split(': ')[0] ?? '', one.split(': ').slice(1).join(': ')]),
  );
  return { status: Number(line.split(' ')[1]), headers: found, body: content === '' ? {} : JSON.parse(content) };
}

export async function withLab(
  alerts: AlertsConfig,
  use: (lab: HttpLab, fake: FakeApi, audit: NewAudit[]) => Promise<void>,
  api: Partial<Api> = {},
): Promise<NewAudit[]> {
  const audit: NewAudit[] = [];
  const fake = fakeApi(api);
  const lab = await startHttpLab({ api: fake.api, alerts, now, store: memoryStore(audit) });
  try {
    await use(lab, fake, audit);
  } finally {
    await lab[Symbol.asyncDispose]();
  }
  return audit;
}

/** How many alerts the audit log accounts for, by action. */
export function counts(audit: readonly NewAudit[]): Record<string, number> {
  const sums: Record<string, number> = {};
  for (const { action, details } of audit)
    sums[action] = (sums[action] ?? 0) + (typeof details.count === 'number' ? details.count : 1);
  return sums;
}

export const event = (id: number, more: object = {}) => ({
  ...sample('falco-shell'),
  uuid: `uuid-${id}`,
  output_fields: { 'container.id': id.toString(16).padStart(12, '0'), 'k8s.ns.name': 'shop', 'k8s.pod.name': 'web-0' },
  ...more,
});
