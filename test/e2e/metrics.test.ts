import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { startAgent } from '../lab/agent.ts';
import { startController } from '../lab/controller.ts';
import { declaredIn, expressionsOf, metricsIn } from '../lab/promql.ts';
import { findPromtool, promtool, promtoolObstacle } from '../lab/promtool.ts';
import { BUCKET, startFakeS3 } from '../unit/sink/fake-s3.ts';

const MONITORING = path.resolve(import.meta.dirname, '../../manifests/monitoring');

/** Where a program's log says that its port of metrics is. */
async function portOf(program: { log(): string }): Promise<string> {
  return await waitFor(async () => {
    const line = program
      .log()
      .split('\n')
      .find((one) => one.includes('metrics and probes ready'));
    return line === undefined ? undefined : `http://127.0.0.1:${(JSON.parse(line) as { port: number }).port}`;
  });
}

async function waitFor<Found>(look: () => Promise<Found | undefined>): Promise<Found> {
  for (let attempt = 0; attempt < 300; attempt += 1) {
    const found = await look();
    if (found !== undefined) return found;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error('it did not come');
}

const scrape = async (at: string): Promise<string> => (await fetch(`${at}/metrics`)).text();

/** The sample of this name with these labels; undefined where it is not there. */
function sample(text: string, name: string, ...labels: string[]): number | undefined {
  const line = text
    .split('\n')
    .find((one) => one.replace(/[{ ].*/, '') === name && labels.every((label) => one.includes(label)));
  return line === undefined ? undefined : Number(line.split(' ').at(-1));
}

const program = findPromtool();
const obstacle = program === undefined ? `: ${promtoolObstacle}` : '';

describe.skipIf(program === undefined)(`a running agent and a running controller${obstacle}`, () => {
  test('tell promtool, the alerts, the dashboard and their people what happens', { timeout: 120_000 }, async () => {
    await using s3 = await startFakeS3();
    await using controller = await startController({ config: { metrics: { listen: '127.0.0.1:0' } } });
    const config = {
      ...{ cluster: 'lab', node: 'n1', metrics: { listen: '127.0.0.1:0' } },
      sink: { url: `s3://${BUCKET}/e`, endpoint: s3.endpoint, forcePathStyle: true, retry: { firstWaitMs: 10 } },
      controller: await controller.agentSection('lab', 'n1'),
      schedules: [{ name: 'yearly', cron: '0 0 1 1 *', selector: { target: 'pid:1' } }],
      policy: { triggers: { socket: { artifacts: ['processes', 'memory'] } } },
    };
    const env = { AWS_ACCESS_KEY_ID: 'key', AWS_SECRET_ACCESS_KEY: 'secret' };
    await using agent = await startAgent(undefined, { config, env });
    const [ofAgent, ofController] = [await portOf(agent), await portOf(controller)];
    await waitFor(async () => (sample(await scrape(ofAgent), 'exhibit_controller_stream_up') === 1 ? true : undefined));

    const target = spawn('sleep', ['1000'], { stdio: 'ignore' });
    try {
      await once(target, 'spawn');
      let failed = 0;
      s3.fault = ({ operation }) => {
        if (operation !== 'PutObject' || failed > 0) return undefined;
        failed += 1;
        return { kind: 'answer', status: 503, code: 'SlowDown' };
      };
      const taken = await agent.exhibit('capture', `pid:${target.pid}`, '--artifacts', 'processes,memory', '--json');
      expect(taken.code).toBe(0);
      const refused = await agent.exhibit('capture', `pid:${target.pid}`, '--artifacts', 'network');
      expect(refused.code).toBe(1);
    } finally {
      target.kill('SIGKILL');
    }

    const told = await waitFor(async () => {
      const text = await scrape(ofAgent);
      return sample(text, 'exhibit_policy_refusals_total', 'trigger="socket"') === 1 ? text : undefined;
    });
    const captured = ['complete', 'partial'].map((outcome) =>
      sample(told, 'exhibit_captures_total', 'trigger="socket"', `outcome="${outcome}"`),
    );
    expect(captured.sort()).toEqual([0, 1]);
    expect(sample(told, 'exhibit_captures_running')).toBe(0);
    expect(sample(told, 'exhibit_captures_not_begun_total', 'trigger="socket"', 'reason="refused"')).toBe(1);
    expect(sample(told, 'exhibit_stage_seconds_count', 'artifact="memory"')).toBe(1);
    expect(sample(told, 'exhibit_read_bytes_total', 'artifact="memory"')).toBeGreaterThan(4096);
    expect(sample(told, 'exhibit_stall_seconds_count', 'artifact="memory"')).toBe(1);
    expect(sample(told, 'exhibit_s3_errors_total', 'kind="throttled"')).toBe(1);
    expect(sample(told, 'exhibit_s3_retries_total', 'call="PutObject"')).toBe(1);
    // One more than the objects, for the one that was tried twice.
    const puts = s3.requests.filter(({ operation }) => operation === 'PutObject').length;
    expect(sample(told, 'exhibit_s3_requests_total', 'call="PutObject"')).toBe(puts);
    expect(sample(told, 'exhibit_seals_total', 'state="whole"')).toBe(1);
    expect(sample(told, 'exhibit_seals_total', 'state="not-whole"')).toBe(0);
    expect(sample(told, 'exhibit_agent_certificate_expiry_seconds')).toBeGreaterThan(0);
    expect(told).not.toContain(String(target.pid));

    const central = await waitFor(async () => {
      const text = await scrape(ofController);
      return sample(text, 'exhibit_controller_audit_entries_total', 'action="capture.ended"') === 1 ? text : undefined;
    });
    expect(sample(central, 'exhibit_controller_agents_connected', 'cluster="lab"')).toBe(1);
    expect(sample(central, 'exhibit_controller_captures_open', 'state="running"')).toBe(0);
    expect(sample(central, 'exhibit_controller_certificate_expiry_seconds', 'listener="agents"')).toBeGreaterThan(0);
    expect(sample(central, 'exhibit_controller_revocation_list_expiry_seconds', 'listener="agents"')).toBeGreaterThan(
      0,
    );
    expect((await fetch(`${ofController}/readyz`)).status).toBe(200);

    const declared = declaredIn(`${told}\n${central}`);
    const foreign = /^(up|kube_)/;
    const { groups } = parse(readFileSync(path.join(MONITORING, 'alerts.yaml'), 'utf8')) as {
      groups: { rules: { expr: string }[] }[];
    };
    const asked = [
      ...groups.flatMap(({ rules }) => rules.map(({ expr }) => expr)),
      ...expressionsOf(JSON.parse(readFileSync(path.join(MONITORING, 'dashboard.json'), 'utf8'))),
    ];
    const missing = asked
      .flatMap(metricsIn)
      .filter(({ metric }) => !foreign.test(metric) && !declared.has(metric))
      .map(({ metric }) => metric);
    expect(missing).toEqual([]);

    for (const text of [told, central])
      expect(promtool(program ?? '', ['check', 'metrics'], text)).toEqual({ code: 0, words: '' });

    // Levels, of both programs by their own ways.
    const louder = await agent.exhibit('log-level', 'debug', '--for', '1m');
    expect([louder.code, louder.stdout]).toEqual([0, expect.stringMatching(/^debug until .*, then info again\n$/)]);
    expect(agent.log()).toMatch(/"from":"info","level":"debug","by":"uid 0.*"msg":"log level set"/);
    const ada = await controller.client('ada');
    expect(await ada.call('SetLogLevel', { level: 'trace', forMs: 60_000 })).toMatchObject({
      level: 'trace',
      usual: 'info',
    });
    const { entries } = await ada.call('ListCustody', { pageSize: 100 });
    expect(entries.map(({ action, actor }) => `${action} by ${actor}`)).toContain('log-level.set by ada');
    expect(controller.log()).toMatch(/"level":"trace","by":"ada".*"msg":"log level set"/);
    // The text may be that of a second before.
    const counted = async () =>
      sample(await scrape(ofController), 'exhibit_controller_requests_total', 'call="SetLogLevel"', 'code="ok"');
    await expect.poll(counted, { timeout: 10_000 }).toBe(1);
  });
});
