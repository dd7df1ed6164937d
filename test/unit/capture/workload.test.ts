import { describe, expect, test } from 'vitest';
import { workloadKey, workloadOf } from '../../../agent/capture/workload.ts';
import { target } from './spine.ts';

const HASH = { 'pod-template-hash': '6d4f9b7c8d' };

describe('the workload of a pod', () => {
  test.each<[string, string, Record<string, string>, string]>([
    ['a deployment', 'shop-6d4f9b7c8d-x2x4z', HASH, 'shop'],
    ['a deployment whose name ends like one', 'shop-x2x4z-6d4f9b7c8d-x2x4z', HASH, 'shop-x2x4z'],
    ['a label that is not in the name', 'shop-1', HASH, 'shop-1'],
    ['a label that is an expression', 'aaaa', { 'pod-template-hash': '.*' }, 'aaaa'],
    ['a daemon set', 'proxy-x2x4z', { 'controller-revision-hash': 'abc' }, 'proxy'],
    [
      'a stateful set, whose pods have names of their own',
      'db-0',
      { 'controller-revision-hash': 'db-abc', 'statefulset.kubernetes.io/pod-name': 'db-0' },
      'db-0',
    ],
    ['a job', 'once-x2x4z', { 'job-name': 'once' }, 'once'],
    ['a cron job', 'nightly-29123456-x2x4z', { 'batch.kubernetes.io/job-name': 'nightly-29123456' }, 'nightly'],
    ['nobody', 'bare-x2x4z', { app: 'bare' }, 'bare-x2x4z'],
  ])('is known of %s', (_, pod, labels, workload) => {
    expect(workloadOf(pod, labels)).toBe(workload);
  });

  test('is known by namespace, container and image, of a whole pod by all containers in any order', () => {
    const image = { name: 'shop:1', id: 'sha256:1' };
    const record = { ...target.record, image };
    const side = { ...record, name: 'a-side', image: { name: 'side:2', id: 'sha256:2' } };
    const { pod: _, ...bare } = record;
    expect(workloadKey(record)).toEqual(['prod', 'web-0', 'web', 'shop:1']);
    expect(workloadKey({ ...record, companions: [side] })).toEqual([
      'prod',
      'web-0',
      'a-side',
      'side:2',
      'web',
      'shop:1',
    ]);
    expect(workloadKey({ ...side, companions: [record] })).toEqual(workloadKey({ ...record, companions: [side] }));
    expect(workloadKey(bare)).toEqual(['container', 'web', 'shop:1']);
  });
});
