import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { type KubernetesObject, nameOf, render, renderWith } from '../../lab/manifests.ts';
import { eachRenders } from './each-renders.ts';

/** Who may speak to whom: every way is listed here, so that one more is seen. */

eachRenders();

const labels = z.strictObject({ matchLabels: z.record(z.string(), z.string()) });
const peer = z.strictObject({
  podSelector: labels.optional(),
  namespaceSelector: labels.optional(),
  ipBlock: z.strictObject({ cidr: z.string(), except: z.array(z.string()).default([]) }).optional(),
});
/** A rule without peers or ports would be for all of them. */
const peers = z.array(peer).min(1);
const ports = z.array(z.strictObject({ port: z.number(), protocol: z.enum(['TCP', 'UDP']) })).min(1);
const policySchema = z.looseObject({
  spec: z.strictObject({
    podSelector: labels,
    policyTypes: z.array(z.enum(['Ingress', 'Egress'])),
    ingress: z.array(z.strictObject({ from: peers, ports })).default([]),
    egress: z.array(z.strictObject({ to: peers, ports })).default([]),
  }),
});

const wordsOf = ({ podSelector, namespaceSelector, ipBlock }: z.output<typeof peer>): string => {
  if (ipBlock !== undefined) return [ipBlock.cidr, ...ipBlock.except.map((one) => `-${one}`)].join(' ');
  const text = (selector: z.output<typeof labels>) =>
    Object.entries(selector.matchLabels)
      .map((one) => one.join('='))
      .join();
  return [
    ...(namespaceSelector === undefined ? [] : [`in ${text(namespaceSelector)}`]),
    ...(podSelector === undefined ? [] : [text(podSelector)]),
  ].join(' ');
};

const portsOf = (given: z.output<typeof ports>) => given.map(({ port, protocol }) => `${protocol} ${port}`).join();

/** `in TCP 9464: in kubernetes.io/metadata.name=monitoring`. */
function waysOf(objects: readonly KubernetesObject[], name: string): string[] {
  const found = objects.find((one) => nameOf(one) === `NetworkPolicy ${name}`);
  const { ingress, egress } = policySchema.parse(found).spec;
  return [
    ...ingress.flatMap((rule) => rule.from.map((one) => `in ${portsOf(rule.ports)}: ${wordsOf(one)}`)),
    ...egress.flatMap((rule) => rule.to.map((one) => `out ${portsOf(rule.ports)}: ${wordsOf(one)}`)),
  ];
}

const DNS = [
  'out UDP 53,TCP 53: in kubernetes.io/metadata.name=kube-system k8s-app=kube-dns',
  'out UDP 53,TCP 53: 169.254.20.10/32',
];
/** Without link-local addresses, where IMDS is. */
const HTTPS = ['out TCP 443: 0.0.0.0/0 -169.254.0.0/16', 'out TCP 443: ::/0 -fd00:ec2::/32 -fe80::/10'];
const MONITORING = 'in kubernetes.io/metadata.name=monitoring';
const of = (component: string) => `app.kubernetes.io/component=${component},app.kubernetes.io/name=exhibit`;

describe('networks', () => {
  test('nobody dials an agent but Prometheus, and it reaches what it needs', () => {
    expect(waysOf(render('base'), 'exhibit-agent')).toEqual([
      `in TCP 9464: ${MONITORING}`,
      ...DNS,
      `out TCP 7443: ${of('controller')}`,
      ...HTTPS,
      'out TCP 80: 169.254.170.23/32',
      'out TCP 80: fd00:ec2::23/128',
    ]);
  });

  test('the controller is dialled by agents, programs and Prometheus, and dials issuers alone', () => {
    expect(waysOf(render('base'), 'exhibit-controller')).toEqual([
      `in TCP 7443: ${of('agent')}`,
      `in TCP 8443: ${MONITORING}`,
      'in TCP 8443: in exhibit-api-client=true',
      `in TCP 9464: ${MONITORING}`,
      ...DNS,
      ...HTTPS,
    ]);
  });

  test('with PostgreSQL it also dials that, at private addresses', () => {
    expect(waysOf(renderWith('base', ['components/postgres']), 'exhibit-controller-postgres')).toEqual([
      'out TCP 5432: 10.0.0.0/8',
      'out TCP 5432: 172.16.0.0/12',
      'out TCP 5432: 192.168.0.0/16',
    ]);
  });

  test('on EKS both also reach DNS at the address of the cluster, where no pod of CoreDNS is', () => {
    expect(waysOf(renderWith('base', ['components/eks']), 'exhibit-dns')).toEqual([
      'out UDP 53,TCP 53: 10.100.0.10/32',
      'out UDP 53,TCP 53: 172.20.0.10/32',
    ]);
  });

  test('every pod of base is in a policy for both directions', () => {
    const policies = render('base').filter(({ kind }) => kind === 'NetworkPolicy');
    const selected = policies.map((one) => {
      const { podSelector, policyTypes } = policySchema.parse(one).spec;
      expect(policyTypes).toEqual(['Ingress', 'Egress']);
      return podSelector.matchLabels['app.kubernetes.io/component'];
    });
    expect(selected.sort()).toEqual(['agent', 'controller']);
  });
});
