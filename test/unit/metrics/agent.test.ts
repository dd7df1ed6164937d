import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { carefreeNeighbour } from '../../../agent/capture/neighbour.ts';
import { type AgentSources, openAgentMetrics } from '../../../agent/metrics/agent.ts';
import type { ControllerStatus } from '../../../agent/trigger/controller.ts';
import type { ScheduleStatus } from '../../../agent/trigger/schedule.ts';
import { labPki } from '../../lab/pki.ts';

const NOW_MS = 1_800_000_000_000;

const sources = (more: Partial<AgentSources> = {}): AgentSources => ({
  captures: { watch: () => ({ [Symbol.dispose]: () => undefined }), list: () => [] },
  readiness: { now: () => ({ ready: false, reasons: ['so'] }) },
  spool: async () => ({ usedBytes: 30, limitBytes: 70 }),
  limits: carefreeNeighbour().numbers,
  certificateFile: undefined,
  status: {},
  ...more,
});

async function text(more: Partial<AgentSources>): Promise<string> {
  using metrics = await openAgentMetrics({ version: '1', sinks: ['west', 'shelf'], s3Sinks: ['west'] }, () => NOW_MS);
  metrics.watch(sources(more));
  return (await metrics.text()).text;
}

describe('the metrics of an agent', () => {
  test('have no stream without a controller, no lag without schedules, and errors of S3 from the start', async () => {
    const told = await text({});
    expect(told).toMatch(/^exhibit_ready 0$/m);
    expect(told).toMatch(/^exhibit_spool_bytes 30$/m);
    expect(told).toMatch(/^exhibit_spool_limit_bytes 70$/m);
    expect(told).toMatch(/^exhibit_s3_errors_total\{sink="west",kind="denied"\} 0$/m);
    expect(told).toMatch(/^exhibit_seals_total\{sink="shelf",state="not-whole"\} 0$/m);
    expect(told).not.toMatch(/exhibit_(controller|schedule|agent_certificate)/);
  });

  test('tell seals that are whole from those that lack a key or a timestamp', async () => {
    using metrics = await openAgentMetrics({ version: '1', sinks: ['west'], s3Sinks: ['west'] });
    metrics.onSeal('west', true);
    metrics.onSeal('west', false);
    metrics.onSeal('west', false);
    const { text: told } = await metrics.text();
    expect(told).toMatch(/^exhibit_seals_total\{sink="west",state="whole"\} 1$/m);
    expect(told).toMatch(/^exhibit_seals_total\{sink="west",state="not-whole"\} 2$/m);
  });

  test('have what its limits held back, and whom they refused', async () => {
    const numbers = {
      ...{ heavyRunning: 1, heavyWaiting: 2, queuedSeconds: 7, overridden: 3 },
      pacedSeconds: { cpu: 1.5, read: 2.5, upload: 0 },
      refusals: { memory: 4, pressure: 0, disk: 0, queue: 5 },
    };
    const told = await text({ limits: () => numbers });
    expect(told).toMatch(/^exhibit_heavy_captures\{state="running"\} 1$/m);
    expect(told).toMatch(/^exhibit_heavy_captures\{state="waiting"\} 2$/m);
    expect(told).toMatch(/^exhibit_queued_seconds_total 7$/m);
    expect(told).toMatch(/^exhibit_paced_seconds_total\{limit="read"\} 2.5$/m);
    expect(told).toMatch(/^exhibit_room_refusals_total\{short="queue"\} 5$/m);
    expect(told).toMatch(/^exhibit_room_overridden_total 3$/m);
  });

  test('have the same numbers in a second scrape, and add nothing up', async () => {
    using metrics = await openAgentMetrics({ version: '1', sinks: [], s3Sinks: [] }, () => NOW_MS);
    const numbers = {
      ...{ heavyRunning: 1, heavyWaiting: 2, queuedSeconds: 7, overridden: 3 },
      pacedSeconds: { cpu: 1.5, read: 2.5, upload: 3.5 },
      refusals: { memory: 4, pressure: 6, disk: 8, queue: 5 },
    };
    metrics.watch(sources({ limits: () => numbers }));
    const limits = async () =>
      (await metrics.text()).text.match(/^exhibit_(heavy|queued|paced|room)\w*(\{.*\})? .*$/gm);
    const first = await limits();
    expect(first).toHaveLength(2 + 1 + 3 + 4 + 1);
    expect(await limits()).toEqual(first);
  });

  test('have how the stream stands, and how often it was made', async () => {
    const status: ControllerStatus = { upSinceMs: NOW_MS - 90_000, why: undefined, tally: { welcomes: 3, ends: 5 } };
    const up = await text({ status: { controller: () => status } });
    expect(up).toMatch(/^exhibit_controller_stream_up 1$/m);
    expect(up).toMatch(/^exhibit_controller_stream_seconds 90$/m);
    expect(up).toMatch(/^exhibit_controller_connects_total 3$/m);
    expect(up).toMatch(/^exhibit_controller_disconnects_total 5$/m);
    const down = await text({ status: { controller: () => ({ upSinceMs: undefined, why: 'so' }) } });
    expect(down).toMatch(/^exhibit_controller_stream_up 0$/m);
    expect(down).toMatch(/^exhibit_controller_stream_seconds 0$/m);
  });

  test('have by how much a schedule is late or overdue, and what it left out', async () => {
    const one: ScheduleStatus = {
      ...{ name: 'hourly', nextMs: NOW_MS - 60_000, lastMs: 1, isRunning: false, lateMs: 5_000, trouble: undefined },
      counts: { runs: 9, captures: 8, failures: 1, missed: 2, overlapped: 3, overBudget: 4 },
    };
    const told = await text({ status: { schedules: () => [one] } });
    expect(told).toMatch(/^exhibit_schedule_lag_seconds\{schedule="hourly"\} 5$/m);
    expect(told).toMatch(/^exhibit_schedule_overdue_seconds\{schedule="hourly"\} 60$/m);
    expect(told).toMatch(/^exhibit_schedule_runs_total\{schedule="hourly"\} 9$/m);
    const left = [...told.matchAll(/^exhibit_schedule_left_out_total\{schedule="hourly",reason="([\w-]+)"\} (\d)$/gm)];
    expect(left.map(([, reason, count]) => `${reason} ${count}`)).toEqual([
      'missed 2',
      'overlapped 3',
      'over-budget 4',
      'failed 1',
    ]);
  });

  test('have when the certificate ends, as long as its file can be read', async () => {
    await using pki = await labPki();
    const folder = await mkdtemp(path.join(tmpdir(), 'exhibit-metrics-'));
    try {
      const { certFile } = await pki.agent('prod', 'n1');
      const file = path.join(folder, 'cert.pem');
      await writeFile(file, await readFile(certFile));
      using metrics = await openAgentMetrics({ version: '1', sinks: [], s3Sinks: [] });
      metrics.watch(sources({ certificateFile: file }));
      const value = async () =>
        /^exhibit_agent_certificate_expiry_seconds (\S+)$/m.exec((await metrics.text()).text)?.[1];
      expect(Number(await value())).toBeGreaterThan(60);
      await writeFile(file, 'no certificate');
      expect(await value()).toBeUndefined();
      await rm(file);
      expect(await value()).toBeUndefined();
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
});
