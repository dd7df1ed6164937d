import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Answer } from '../../agent/trigger/folder-answer.ts';
import type { Manifest, RequestRecord } from '../../evidence/manifest.ts';
import { runCli, startAgent } from '../lab/agent.ts';
import { type LabNode, startNode } from '../lab/node.ts';
import { labObstacle, requireLab } from '../lab/requires.ts';
import { compromisedPod } from '../lab/victim.ts';
import { json } from './readers.ts';

/** The request folder and the schedules of a real agent, with captures of a real container. */

let node: LabNode;
beforeAll(async () => {
  if (labObstacle() !== undefined) return;
  node = await startNode();
  await compromisedPod(node);
}, 120_000);
afterAll(async () => {
  if (labObstacle() === undefined) await node[Symbol.asyncDispose]();
}, 60_000);
beforeEach((context) => requireLab(context));

const WAIT = { timeout: 60_000, interval: 20 };
const folderOf = (agent: { folder: string }) => path.join(agent.folder, 'requests');
const bundlesOf = (agent: { evidence: string }): string[] => {
  const base = path.join(agent.evidence, 'lab', 'lab-node');
  return existsSync(base) ? readdirSync(base).map((name) => path.join(base, name)) : [];
};

function put(folder: string, name: string, request: object): void {
  const partial = path.join(folder, `.${name}.tmp`);
  writeFileSync(partial, JSON.stringify(request), { mode: 0o600 });
  renameSync(partial, path.join(folder, name));
}

function answerTo(folder: string, name: string): Answer | undefined {
  const file = path.join(folder, `${name}.answer.json`);
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Answer) : undefined;
}

const answered = (folder: string, name: string, isIt: (answer: Answer) => boolean): Promise<Answer> =>
  vi.waitFor(() => {
    const answer = answerTo(folder, name);
    if (answer === undefined || !isIt(answer)) throw new Error(`not answered yet: ${JSON.stringify(answer)}`);
    return answer;
  }, WAIT);
const hasEnded = ({ state }: Answer) => state !== 'accepted';

/** Its folder is the agent's own, so that it goes with it. */
async function startWithFolder(folder?: string) {
  const at = folder ?? execFileSync('mktemp', ['-d', '/tmp/exhibit-agent-XXXXXX']).toString().trim();
  const agent = await startAgent(node, {
    folder: at,
    config: { requestFolder: { path: path.join(at, 'requests'), sweepMs: 1000 } },
  });
  // The agent makes it, a moment after its API is there.
  await vi.waitFor(() => expect(existsSync(path.join(at, 'requests'))).toBe(true), WAIT);
  return agent;
}

describe('a request that is renamed into the folder', () => {
  test('is a bundle that verifies, whose request says which file asked, and an answer that says where it is', async () => {
    await using agent = await startWithFolder();
    const folder = folderOf(agent);
    put(folder, 'web.json', {
      ...{ target: 'prod/web-0', artifacts: ['processes', 'network'], consistency: 'live', case: 'CASE-7' },
      ...{ exhibitNumber: 'E-1' },
    });
    const answer = await answered(folder, 'web.json', hasEnded);
    const bundle = new URL(answer.bundleUrl ?? '').pathname;
    expect(['complete', 'partial'], JSON.stringify(answer)).toContain(answer.state);
    expect(await runCli(['verify', bundle])).toMatchObject({ code: 0 });
    const sha256 = execFileSync('sha256sum', [path.join(folder, 'web.json')])
      .toString()
      .slice(0, 64);
    expect(json<RequestRecord>(bundle, 'request.json')).toMatchObject({
      ...{ captureId: answer.captureId, caseId: 'CASE-7', exhibitNumber: 'E-1' },
      requester: { trigger: 'folder', identity: `uid 0 (root), web.json, sha256 ${sha256}` },
    });
    const manifest = json<Manifest>(bundle, 'manifest.json');
    expect(answer.gapCount).toBe(manifest.artifacts.reduce((sum, { gaps }) => sum + gaps.length, 0));
    expect(answer.state).toBe(manifest.outcome);

    put(folder, 'nobody.json', { target: 'prod/nobody' });
    put(folder, 'bad.json', { target: 'prod/web-0', sinks: ['thief'] });
    expect(await answered(folder, 'nobody.json', hasEnded)).toMatchObject({ state: 'refused' });
    await vi.waitFor(
      () => expect(readFileSync(path.join(folder, 'rejected', 'bad.json.reason.json'), 'utf8')).toMatch(/no sink/),
      WAIT,
    );
    expect(bundlesOf(agent)).toEqual([bundle]);
    const doctor = await agent.exhibit('doctor');
    expect(doctor.stdout).toContain('can be written by its owners alone');
  });

  test('and whose agent is killed is captured once, and told of by the next agent', async () => {
    await using agent = await startWithFolder();
    const folder = folderOf(agent);
    put(folder, 'web.json', { target: 'prod/web-0' });
    const accepted = await answered(folder, 'web.json', () => true);
    await agent.kill();
    // One that nobody has looked at.
    put(folder, 'later.json', { target: 'prod/web-0', artifacts: ['processes'], consistency: 'live' });
    await using next = await startWithFolder(agent.folder);
    const [ended, later] = await Promise.all([
      answered(folder, 'web.json', (answer) => hasEnded(answer) && answer.waitingSinks?.length === 0),
      answered(folder, 'later.json', hasEnded),
    ]);
    expect(ended.captureId).toBe(accepted.captureId);
    expect(['truncated', 'complete', 'partial']).toContain(ended.state);
    expect(
      bundlesOf(next)
        .map((bundle) => path.basename(bundle))
        .sort(),
    ).toEqual([ended.captureId, later.captureId].sort());
    expect(await runCli(['verify', new URL(later.bundleUrl ?? '').pathname])).toMatchObject({ code: 0 });
    rmSync(path.join(folder, 'later.json.answer.json'));
    await next.kill();
    await using last = await startWithFolder(agent.folder);
    expect(await answered(folder, 'later.json', hasEnded)).toMatchObject({ captureId: later.captureId });
    expect(bundlesOf(last)).toHaveLength(2);
  });
});

describe('a schedule of every second', () => {
  test('captures within its budget, keeps the newest runs, and leaves captures of people alone', async () => {
    await using agent = await startAgent(node, {
      config: {
        schedules: [
          {
            ...{ name: 'baseline', cron: '* * * * * *', jitterMs: 0, selector: { namespaces: ['pro*'] }, keep: 2 },
            ...{ artifacts: ['processes', 'network'], reason: 'baseline' },
          },
        ],
        scheduleBudget: { capturesPerHour: 5 },
      },
    });
    const incident = await agent.exhibit(
      ...['capture', 'prod/web-0', '--artifacts', 'processes', '--consistency', 'live', '--reason', 'incident'],
    );
    expect(incident.code, incident.stderr).toBe(0);
    await vi.waitFor(() => expect(agent.log()).toMatch(/5 scheduled captures in the last hour/), WAIT);
    const requests = bundlesOf(agent).map((bundle) => json<RequestRecord>(bundle, 'request.json'));
    const scheduled = requests.filter(({ requester }) => requester.trigger === 'schedule');
    expect(requests.filter(({ requester }) => requester.trigger === 'socket')).toHaveLength(1);
    expect(scheduled).toHaveLength(2);
    expect(new Set(scheduled.map(({ schedule }) => schedule?.tick)).size).toBe(2);
    expect(scheduled[0]).toMatchObject({
      ...{ reason: 'baseline', artifacts: ['processes', 'network'] },
      requester: { trigger: 'schedule', identity: 'baseline' },
      target: { pod: { namespace: 'prod', name: 'web-0' } },
    });
    // Five were begun, and three of them removed.
    expect(agent.log().match(/removed a bundle that is older/g)).toHaveLength(3);
    for (const bundle of bundlesOf(agent)) expect(await runCli(['verify', bundle]), bundle).toMatchObject({ code: 0 });
    const doctor = await agent.exhibit('doctor');
    expect(doctor.stdout).toMatch(/baseline.*5 captures/);
    expect(doctor.stdout).toContain('as many as scheduleBudget allows');
  });
});
