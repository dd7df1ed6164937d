import { DeleteObjectCommand, HeadObjectCommand } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type CustodyAgent, type CustodyLab, captureIdOf, startCustodyLab, untilSealed } from '../lab/custody-lab.ts';
import { labObstacle, requireLab, requireS3, s3Obstacle } from '../lab/requires.ts';

/** What the fault table needs a server with conditional writes and Object Lock for: moto, because radosgw's store has neither. */

const runs = labObstacle() === undefined && s3Obstacle() === undefined;
let next = 1;
const newId = () => captureIdOf(0x1000 + next++);
const ARTIFACTS = 'processes,rootfs,spec';

beforeEach((context) => {
  requireLab(context);
  requireS3(context);
});

const capture = (lab: CustodyLab, agent: CustodyAgent, id: string, ...more: string[]) =>
  agent.exhibit('capture', lab.selector, '--id', id, '--artifacts', ARTIFACTS, ...more);

describe('one capture id', () => {
  let lab: CustodyLab;
  beforeAll(async () => {
    if (runs) lab = await startCustodyLab({ server: 'moto', files: 7 });
  }, 120_000);
  afterAll(async () => {
    if (runs) await lab[Symbol.asyncDispose]();
  }, 60_000);

  test('in two agents of one name makes one bundle, and the second fails before it reads anything', async () => {
    const id = newId();
    await using one = await lab.agent();
    await using other = await lab.agent();
    const first = await capture(lab, one, id);
    expect(first.code, first.stderr).toBe(0);
    await untilSealed(lab, id, one);
    const before = lab.proxy.requests.length;
    const versions = await lab.store.versions(lab.bundleKey(id));

    const second = await capture(lab, other, id);
    expect(second.code).toBe(1);
    expect(second.stderr).toContain('exists already');
    const sent = lab.proxy.requests.slice(before).map(({ operation, key }) => `${operation} ${key.split('/').at(-1)}`);
    expect(sent.filter((one) => !/^(PutObject request\.json|\w+ \.exhibit-check-.*)$/.test(one))).toEqual([]);
    expect(await lab.store.versions(lab.bundleKey(id))).toEqual(versions);
    expect((await lab.account(id)).problems).toEqual([]);
    expect((await lab.account(id)).found).toBe(7);
    expect(await lab.frozen()).toBeUndefined();
  });

  test('in two agents at once makes one bundle', async () => {
    const id = newId();
    await using one = await lab.agent();
    await using other = await lab.agent();
    const ends = await Promise.all([capture(lab, one, id), capture(lab, other, id)]);
    expect(ends.map(({ code }) => code).sort(), ends.map(({ stderr }) => stderr).join()).toEqual([0, 1]);
    await untilSealed(lab, id);
    const account = await lab.account(id);
    expect(account.problems).toEqual([]);
    expect(account.found).toBe(7);
    expect(await lab.frozen()).toBeUndefined();
  });

  test('twice in one agent is one capture', async () => {
    const id = newId();
    await using agent = await lab.agent();
    const [first, second] = await Promise.all([capture(lab, agent, id), capture(lab, agent, id)]);
    expect([first.code, second.code], first.stderr + second.stderr).toEqual([0, 0]);
    const before = lab.proxy.requests.length;
    expect((await capture(lab, agent, id)).code).toBe(0);
    expect(lab.proxy.requests).toHaveLength(before);
    expect((await lab.account(id)).problems).toEqual([]);
  });
});

const inMs = (days: number) => Date.now() + days * 24 * 3600_000;

describe('Object Lock', () => {
  const lock = { objectLock: { mode: 'COMPLIANCE', retainDays: 30, legalHold: true } };

  test('that the bucket should have and has not ends the capture before it begins', async () => {
    await using lab = await startCustodyLab({ server: 'moto' });
    await using agent = await lab.agent({ sink: lock });
    const id = newId();
    const { code, stderr } = await capture(lab, agent, id);
    expect(code).toBe(1);
    expect(stderr).toMatch(/Object Lock/);
    expect(await lab.store.versions()).toEqual([]);
    expect(await lab.store.unfinishedUploads()).toEqual([]);
    expect(await lab.frozen()).toBeUndefined();
  });

  test('that the bucket says it has not is told at the start, and no capture begins', async () => {
    await using lab = await startCustodyLab({ server: 'moto' });
    // Past the proxy, which lets nobody ask.
    await using agent = await lab.agent({ sink: { ...lock, endpoint: lab.s3.endpoint } });
    await expect.poll(() => agent.log(), { timeout: 20_000 }).toContain('sink is not as configured');
    const { code, stderr } = await capture(lab, agent, newId());
    expect(code).toBe(1);
    expect(stderr).toContain('has no Object Lock and sink.objectLock wants it');
    expect(await lab.store.versions()).toEqual([]);
    expect(await lab.store.unfinishedUploads()).toEqual([]);
  });

  test('holds every object of a bundle, and no version can be deleted', async () => {
    await using lab = await startCustodyLab({ server: 'moto', objectLock: true, files: 7 });
    await using agent = await lab.agent({ sink: lock });
    const id = newId();
    const captured = await capture(lab, agent, id);
    expect(captured.code, captured.stderr).toBe(0);
    await untilSealed(lab, id, agent);
    const account = await lab.account(id);
    expect(account.problems).toEqual([]);
    expect(account.manifest?.sink?.objectLock).toMatchObject({ mode: 'COMPLIANCE', legalHold: true });
    const versions = await lab.store.versions(lab.bundleKey(id));
    expect(versions.length).toBe(account.objects.size);
    for (const { key, versionId } of versions) {
      const one = { Bucket: lab.s3.bucket, Key: key, VersionId: versionId };
      const began = lab.proxy.requests.find((seen) => seen.operation === 'CreateMultipartUpload' && seen.key === key);
      if (began !== undefined) {
        // moto forgets what a multipart upload was begun with.
        expect(began.headers['x-amz-object-lock-mode']).toBe('COMPLIANCE');
        expect(Date.parse(String(began.headers['x-amz-object-lock-retain-until-date']))).toBeGreaterThan(inMs(29));
        expect(began.headers['x-amz-object-lock-legal-hold']).toBe('ON');
        continue;
      }
      // moto answers no GetObjectRetention.
      const head = await lab.store.client.send(new HeadObjectCommand(one));
      expect(head.ObjectLockMode, key).toBe('COMPLIANCE');
      expect(head.ObjectLockRetainUntilDate?.getTime(), key).toBeGreaterThan(inMs(29));
      expect(head.ObjectLockLegalHoldStatus, key).toBe('ON');
      await expect(lab.store.client.send(new DeleteObjectCommand(one)), key).rejects.toThrow(/Access|lock/i);
    }
    expect(await lab.store.versions(lab.bundleKey(id))).toHaveLength(versions.length);
  });
});
