import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type AlternativeName, issueLeaf, type LeafSpec, type Pair } from '../../../../cli/pki/issue.ts';
import {
  agentIdentity,
  agentUri,
  alternativeNames,
  NAME,
  operatorName,
  operatorUri,
} from '../../../../controller/identity/certificates.ts';
import { type LabPki, labPki } from '../../../lab/pki.ts';

let pki: LabPki;
let issuer: Pair;
beforeAll(async () => {
  pki = await labPki();
  issuer = await pki.pair('operators');
});
afterAll(async () => await pki[Symbol.asyncDispose]());

async function certificate(names: readonly AlternativeName[], over: Partial<LeafSpec> = {}): Promise<X509Certificate> {
  const now = Date.now();
  const times = { notBefore: new Date(now - 1000), notAfter: new Date(now + 60_000) };
  return (await issueLeaf({ commonName: 'alice', usage: 'client', names, ...times, ...over }, issuer)).certificate;
}

const der = (files: { certFile: string }) => new X509Certificate(readFileSync(files.certFile));
const ALICE = 'spiffe://exhibit/operator/alice';

describe('a certificate', () => {
  test('of an agent names its cluster and node', async () => {
    expect(agentIdentity(der(await pki.agent('prod', 'ip-10-0-1-2.eu-west-1.compute.internal')), 'exhibit')).toEqual({
      cluster: 'prod',
      node: 'ip-10-0-1-2.eu-west-1.compute.internal',
    });
  });

  test('of an operator names them', async () => {
    expect(operatorName(der(await pki.operator('alice')), 'exhibit')).toBe('alice');
  });

  test('may have names of machines beside its SPIFFE ID', async () => {
    const names = [{ dns: 'a.example' }, { uri: ALICE }, { ip: '10.0.0.1' }, { ip: '2001:db8::1' }];
    expect(operatorName(await certificate(names), 'exhibit')).toBe('alice');
  });

  test('of an agent is no operator, and the reverse', async () => {
    const [agent, alice] = [der(await pki.agent('prod', 'node-1')), der(await pki.operator('alice'))];
    expect(() => operatorName(agent, 'exhibit')).toThrow('does not name an operator');
    expect(() => agentIdentity(alice, 'exhibit')).toThrow('does not name an agent');
  });

  test.each([
    ['no SAN, for all that its subject says', []],
    ['a DNS name only', [{ dns: 'alice' }]],
    ['two SPIFFE IDs', [{ uri: ALICE }, { uri: 'spiffe://exhibit/operator/bob' }]],
    ['the same SPIFFE ID twice', [{ uri: ALICE }, { uri: ALICE }]],
    ['a second URI of another kind', [{ uri: ALICE }, { uri: 'https://example.com/' }]],
    ['another trust domain', [{ uri: 'spiffe://other/operator/alice' }]],
    ['a trust domain that begins like ours', [{ uri: 'spiffe://exhibit.evil.example/operator/alice' }]],
    ['another case of the scheme', [{ uri: 'SPIFFE://exhibit/operator/alice' }]],
    ['a user before the trust domain', [{ uri: 'spiffe://x@exhibit/operator/alice' }]],
    ['one segment too many', [{ uri: `${ALICE}/admin` }]],
    ['a slash at its end', [{ uri: `${ALICE}/` }]],
    ['a query', [{ uri: `${ALICE}?x` }]],
    ['percent signs', [{ uri: 'spiffe://exhibit/operator/al%69ce' }]],
    ['an empty name', [{ uri: 'spiffe://exhibit/operator/' }]],
    ['dots for a name', [{ uri: 'spiffe://exhibit/operator/..' }]],
    ['a star for a name', [{ uri: 'spiffe://exhibit/operator/*' }]],
    ['a name that is too long', [{ uri: `spiffe://exhibit/operator/${'a'.repeat(254)}` }]],
    ['a comma that makes one URI look like two names', [{ uri: `https://x/, URI:${ALICE}` }]],
    ['a comma within a DNS name', [{ dns: `x, URI:${ALICE}` }]],
    ['a quote within a DNS name', [{ dns: `x", URI:${ALICE}, DNS:"` }]],
    ['a NUL behind the name', [{ uri: `${ALICE}\0.evil` }]],
    ['a NUL within a DNS name beside it', [{ uri: ALICE }, { dns: 'a\0b' }]],
    ['a line feed', [{ uri: `${ALICE}\nURI:x` }]],
    ['characters outside of ASCII', [{ uri: 'spiffe://exhibit/operator/\u00e4lice' }]],
  ] as const)('is refused that has %s', async (_, names) => {
    const made = await certificate([...names]);
    expect(() => operatorName(made, 'exhibit')).toThrow('The certificate is refused: ');
  });

  test('is refused that is for servers', async () => {
    const made = await certificate([{ uri: ALICE }], { usage: 'server' });
    expect(() => operatorName(made, 'exhibit')).toThrow('extended key usage is not clientAuth');
  });

  test('is refused that is an authority, or no certificate', () => {
    expect(() => operatorName(issuer.certificate, 'exhibit')).toThrow("it is an authority's");
    expect(() => operatorName({ raw: Buffer.from('garbage') }, 'exhibit')).toThrow('cannot be read');
  });
});

describe('the text of a SAN', () => {
  test('with a quote, a comma or a control in a value is refused whole, whatever stands around it', () => {
    const hostile = fc.tuple(fc.string(), fc.constantFrom('"', ',', '\\', '\0', '\n', "'", ' '), fc.string());
    fc.assert(
      fc.property(hostile, ([before, bad, after]) => {
        const text = `URI:${ALICE}, DNS:${JSON.stringify(before + bad + after)}`;
        expect(() => alternativeNames(text)).toThrow('refused');
      }),
    );
  });

  test('gives back what was joined, for values that need no quotes', () => {
    const value = fc.stringMatching(/^[!#-&(-+\--[\]-~]{1,30}$/);
    const entry = fc.record({ type: fc.constantFrom('DNS', 'URI', 'email', 'IP Address'), value });
    fc.assert(
      fc.property(fc.array(entry), (entries) => {
        const text = entries.map((one) => `${one.type}:${one.value}`).join(', ');
        expect(alternativeNames(text)).toEqual(entries);
      }),
    );
  });
});

describe('a name', () => {
  test('that is allowed comes back from the certificate that was made for it', async () => {
    const name = fc.stringMatching(/^[A-Za-z0-9]([A-Za-z0-9._-]{0,60}[A-Za-z0-9])?$/).filter((one) => NAME.test(one));
    await fc.assert(
      fc.asyncProperty(name, name, async (cluster, node) => {
        const uri = agentUri('exhibit', { cluster, node });
        expect(agentIdentity(await certificate([{ uri }]), 'exhibit')).toEqual({ cluster, node });
        expect(operatorName(await certificate([{ uri: operatorUri('exhibit', node) }]), 'exhibit')).toBe(node);
      }),
      { numRuns: 15 },
    );
  });
});
