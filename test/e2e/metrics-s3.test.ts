import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { PutBucketPolicyCommand } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { startAgent } from '../lab/agent.ts';
import { requireS3, s3Obstacle } from '../lab/requires.ts';
import { type LabS3, startS3 } from '../lab/s3.ts';

/** What the agent counts of a real object store that refuses it, and what it says of its readiness then. */

let s3: LabS3;
let target: ReturnType<typeof spawn>;

beforeAll(async () => {
  if (s3Obstacle() !== undefined) return;
  s3 = await startS3();
  target = spawn('sleep', ['1000'], { stdio: 'ignore' });
  await once(target, 'spawn');
});
afterAll(async () => {
  target?.kill('SIGKILL');
  await s3?.[Symbol.asyncDispose]();
});
beforeEach((context) => requireS3(context));

const metrics = { listen: '127.0.0.1:0' };
const sinkAt = (bucket: string, prefix: string) => ({
  ...{ url: `s3://${bucket}/${prefix}`, endpoint: s3.endpoint, region: s3.region },
  ...{ forcePathStyle: true, ifNoneMatch: false, retry: { firstWaitMs: 10 } },
});
const keys = (secret = s3.secretAccessKey) => ({ AWS_ACCESS_KEY_ID: s3.accessKeyId, AWS_SECRET_ACCESS_KEY: secret });

/** By `sink kind`, every error that was counted. */
async function errors(agent: { log(): string }): Promise<Record<string, number>> {
  const port = /"port":(\d+)[^\n]*"msg":"metrics and probes ready"/.exec(agent.log())?.[1];
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  const found = [...text.matchAll(/^exhibit_s3_errors_total\{([^}]*)\} (\d+)$/gm)].flatMap(([, labels = '', count]) => {
    const [sink, kind] = ['sink', 'kind'].map((name) => new RegExp(`${name}="([^"]*)"`).exec(labels)?.[1]);
    return count === '0' ? [] : [[`${sink} ${kind}`, Number(count)] as const];
  });
  return Object.fromEntries(found);
}

const capture = (agent: Awaited<ReturnType<typeof startAgent>>, ...sinks: string[]) =>
  agent.exhibit(
    'capture',
    `pid:${target.pid}`,
    '--artifacts',
    'processes',
    ...sinks.flatMap((name) => ['--sink', name]),
  );

describe('errors of a real S3', () => {
  test('are counted by sink and kind: a policy that denies, a bucket that is not there, a server that is away', {
    timeout: 120_000,
  }, async () => {
    const client = s3.client();
    const Resource = [`arn:aws:s3:::${s3.bucket}/shut/*`];
    const policy = {
      Version: '2012-10-17',
      Statement: [{ Effect: 'Deny', Principal: '*', Action: ['s3:PutObject'], Resource }],
    };
    await client.send(new PutBucketPolicyCommand({ Bucket: s3.bucket, Policy: JSON.stringify(policy) }));
    client.destroy();
    const sinks = {
      open: sinkAt(s3.bucket, 'open'),
      shut: sinkAt(s3.bucket, 'shut'),
      none: sinkAt('there-is-no-such-bucket', 'x'),
    };
    await using agent = await startAgent(undefined, { config: { sink: undefined, sinks, metrics }, env: keys() });
    // The look at the sinks and the rehearsal, after the start: once each, and next in a quarter of an hour.
    await expect.poll(() => agent.log(), { timeout: 30_000 }).toContain('"msg":"rehearsed"');
    await expect
      .poll(() => errors(agent), { timeout: 10_000 })
      .toEqual({ 'none not-found': expect.any(Number), 'shut denied': expect.any(Number) });
    const before = await errors(agent);
    const taken = await capture(agent, 'open');
    expect(taken.code, taken.stderr).toBe(0);
    expect(await errors(agent)).toEqual(before);

    const refused = await capture(agent, 'shut');
    expect([refused.code, refused.stderr]).toEqual([
      1,
      expect.stringContaining('it denies access; allow s3:PutObject'),
    ]);
    const missing = await capture(agent, 'none');
    expect([missing.code, missing.stderr]).toEqual([1, expect.stringContaining('there-is-no-such-bucket')]);
    const more = async (of: string) => ((await errors(agent))[of] ?? 0) - (before[of] ?? 0);
    await expect.poll(() => more('shut denied'), { timeout: 10_000 }).toBeGreaterThan(0);
    await expect.poll(() => more('none not-found'), { timeout: 10_000 }).toBeGreaterThan(0);
    expect(Object.keys(await errors(agent)).sort()).toEqual(['none not-found', 'shut denied']);

    await s3.kill();
    try {
      await capture(agent, 'open');
      const away = async () => (await errors(agent))['open unreachable'];
      await expect.poll(away, { timeout: 10_000 }).toBeGreaterThan(0);
    } finally {
      await s3.restart();
    }
  });

  test('are those of credentials with a wrong key, and end readiness', { timeout: 60_000 }, async () => {
    const config = { sink: sinkAt(s3.bucket, 'wrong'), metrics };
    await using agent = await startAgent(undefined, { config, env: keys('not-the-secret-key-of-anybody-0000000000') });
    const refused = await capture(agent);
    expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining('does not accept the access key')]);
    await expect
      .poll(async () => Object.keys(await errors(agent)), { timeout: 10_000 })
      .toEqual(['default credentials']);
    const port = /"port":(\d+)[^\n]*"msg":"metrics and probes ready"/.exec(agent.log())?.[1];
    const reasons = async () => (await fetch(`http://127.0.0.1:${port}/readyz`)).text();
    await expect.poll(reasons, { timeout: 20_000 }).toMatch(/^not ready\n(- .*\n)*- .*does not accept the access key/);
  });
});
