import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { alertsSchema } from '../../../controller/alerts/config.ts';
import { readGuardDuty } from '../../../controller/alerts/guardduty.ts';
import { OUTCOMES } from '../../../controller/alerts/intake.ts';
import { decide } from '../../../controller/alerts/rules.ts';

const read = (file: string): string => readFileSync(path.resolve(import.meta.dirname, '../../..', file), 'utf8');
const DOC = read('docs/alerts.md');
const example = (): unknown => parse(/^```yaml\n(.*?)^```$/ms.exec(DOC)?.[1] ?? '').alerts;

describe('docs/alerts.md', () => {
  test('shows a configuration that is one', () => {
    const config = alertsSchema.parse(example());
    expect(Object.keys(config.sources)).toEqual(['falco-prod', 'prometheus', 'guardduty']);
    expect(config.rules.map(({ name }) => name)).toEqual(['known-noise', 'shells', 'miners', 'findings', 'privileged']);
  });

  test('has rules that do with the samples what they say', () => {
    const config = alertsSchema.parse(example());
    const source = config.sources.guardduty;
    if (source === undefined) throw new Error('no source');
    const decided = ['runtime', 'audit'].map((name) => {
      const [alert] = readGuardDuty(JSON.parse(read(`test/unit/fixtures/alerts/guardduty-${name}.json`)), source);
      if (alert === undefined) throw new Error('no alert');
      return decide(alert, source, 'guardduty', config.rules, Date.parse('2026-11-20T10:00:30Z'));
    });
    expect(decided).toMatchObject([
      { kind: 'capture', rule: { name: 'findings' }, targets: [{ target: expect.stringMatching(/^3ad7b26ded6d/) }] },
      { kind: 'capture', rule: { name: 'privileged' }, targets: [{ target: 'app=miner', maxTargets: 5 }] },
    ]);
  });

  test('shows configurations of the senders that are YAML, and name the paths of its own sources', () => {
    const [, senders = ''] = /^## Senders$(.*?)^## /ms.exec(DOC) ?? [];
    const blocks = senders.match(/(^ {4}.*\n|^\n(?= {4}))+/gm) ?? [];
    expect(blocks).toHaveLength(3);
    // CloudFormation's own short form of a function.
    const getAtt = { tag: '!GetAtt', resolve: (text: string) => text };
    const [sidekick, manager, bridge] = blocks.map((text) =>
      parse(text.replace(/^ {4}/gm, ''), { customTags: [getAtt] }),
    );
    const paths = [
      sidekick.webhook.address,
      manager.receivers[0].webhook_configs[0].url,
      bridge.Destination.Properties.InvocationEndpoint,
    ].map((url: string) => new URL(url).pathname);
    const sources = Object.keys(alertsSchema.parse(example()).sources);
    expect(paths).toEqual(sources.map((name) => `/v1/alerts/${name}`));
    expect(sidekick.webhook.customHeaders.Authorization).toMatch(/^Bearer \S+$/);
    expect(manager.receivers[0].webhook_configs[0].http_config.basic_auth.username).toBe('alertmanager');
    expect(bridge.Connection.Properties.AuthParameters.ApiKeyAuthParameters.ApiKeyName).toBe('x-api-key');
  });

  test('names every outcome', () => {
    expect(OUTCOMES.filter((outcome) => !DOC.includes(`\`${outcome}\``))).toEqual([]);
  });
});
