import { execFile } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { initPki } from '../../../cli/pki/folder.ts';
import { exhibit, TEST_TIMEOUT_MS } from './run.ts';

vi.setConfig({ testTimeout: TEST_TIMEOUT_MS });

const exec = promisify(execFile);
let folder: string;
let pki: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'exhibit-pki-'));
  pki = path.join(folder, 'pki');
});
afterEach(async () => await rm(folder, { recursive: true, force: true }));

const run = (...args: string[]) => exhibit(['pki', ...args]);
const init = () => run('init', '--out', pki, '--san', 'controller.example', '10.1.2.3', '2001:db8::7');
/** The same without a process of its own. */
const prepare = () => initPki(pki, { trustDomain: 'exhibit', names: ['controller.example'] });
const at = (...parts: string[]) => path.join(pki, ...parts);

/** OpenSSL's verdict, by its own reading of RFC 5280 and with the revocation list. */
function verify(authority: string, purpose: string, file: string) {
  const trust = ['-CAfile', at(authority, 'ca.pem'), '-CRLfile', at(authority, 'crl.pem'), '-crl_check'];
  return exec('openssl', ['verify', '-x509_strict', '-purpose', purpose, ...trust, file]);
}

const text = async (file: string) => (await exec('openssl', ['x509', '-noout', '-text', '-in', file])).stdout;

describe('exhibit pki', () => {
  test('makes what OpenSSL believes, each for its purpose and no other', async () => {
    expect((await init()).code).toBe(0);
    expect((await run('agent', 'prod', 'node-1', '--pki', pki)).code).toBe(0);
    expect((await run('operator', 'alice', '--pki', pki)).code).toBe(0);
    const agent = at('agents', 'nodes', 'prod', 'node-1.pem');
    const operator = at('operators', 'people', 'alice.pem');
    const server = at('controller', 'server.pem');
    expect((await verify('agents', 'sslclient', agent)).stdout).toContain('OK');
    expect((await verify('operators', 'sslclient', operator)).stdout).toContain('OK');
    expect((await verify('controller', 'sslserver', server)).stdout).toContain('OK');
    await expect(verify('agents', 'sslserver', agent)).rejects.toThrow('unsuitable certificate purpose');
    await expect(verify('controller', 'sslclient', server)).rejects.toThrow('unsuitable certificate purpose');
    await expect(verify('operators', 'sslclient', agent)).rejects.toThrow('unable to get local issuer certificate');
    expect(await text(agent)).toContain('URI:spiffe://exhibit/cluster/prod/node/node-1');
    expect(await text(operator)).toContain('URI:spiffe://exhibit/operator/alice');
    expect(await text(server)).toContain(
      'DNS:controller.example, IP Address:10.1.2.3, IP Address:2001:DB8:0:0:0:0:0:7',
    );
  });

  test('makes what OpenSSL believes of nodes and people whose names could be DNS names', async () => {
    await prepare();
    const node = 'ip-10-0-0-7.eu-central-1.compute.internal';
    expect((await run('agent', 'eu.prod.example', node, '--pki', pki)).code).toBe(0);
    expect((await run('operator', 'ada.lovelace', '--pki', pki)).code).toBe(0);
    const agent = at('agents', 'nodes', 'eu.prod.example', `${node}.pem`);
    expect((await verify('agents', 'sslclient', agent)).stdout).toContain('OK');
    const operator = at('operators', 'people', 'ada.lovelace.pem');
    expect((await verify('operators', 'sslclient', operator)).stdout).toContain('OK');
  });

  test('makes authorities that may sign leaves of their trust domain, and nothing else', async () => {
    await run('init', '--out', pki, '--trust-domain', 'forensics.example');
    for (const authority of ['agents', 'operators']) {
      const words = await text(at(authority, 'ca.pem'));
      expect(words).toMatch(/Basic Constraints: critical\s+CA:TRUE, pathlen:0/);
      expect(words).toMatch(/Key Usage: critical\s+Certificate Sign, CRL Sign/);
      expect(words).toMatch(/Name Constraints: critical\s+Permitted:\s+URI:forensics\.example\s+Excluded:\s+DNS:/);
      expect(words).toContain('prime256v1');
    }
    await run('agent', 'prod', 'node-1', '--pki', pki);
    const leaf = await text(at('agents', 'nodes', 'prod', 'node-1.pem'));
    expect(leaf).toMatch(/Basic Constraints: critical\s+CA:FALSE/);
    expect(leaf).toMatch(/Key Usage: critical\s+Digital Signature\n/);
  });

  test('writes keys and certificates that their owner alone can read, and keys that fit', async () => {
    await prepare();
    const files = (await readdir(pki, { recursive: true }))
      .map((name) => at(name))
      .filter((file) => statSync(file).isFile());
    expect(files.length).toBeGreaterThan(10);
    expect(files.filter((file) => (statSync(file).mode & 0o777) !== 0o600)).toEqual([]);
    const ofCertificate = await exec('openssl', ['x509', '-noout', '-pubkey', '-in', at('controller', 'server.pem')]);
    const ofKey = await exec('openssl', ['pkey', '-pubout', '-in', at('controller', 'server.key')]);
    expect(ofKey.stdout).toBe(ofCertificate.stdout);
  });

  test('overwrites nothing', async () => {
    await prepare();
    await run('agent', 'prod', 'node-1', '--pki', pki);
    const before = await Promise.all((await readdir(pki, { recursive: true })).sort().map(contents));
    for (const again of [await init(), await run('agent', 'prod', 'node-1', '--pki', pki)]) {
      expect(again.code).toBe(2);
      expect(again.stderr).toContain('exists and is not overwritten');
    }
    expect(await Promise.all((await readdir(pki, { recursive: true })).sort().map(contents))).toEqual(before);
  });

  test('revokes by file and by serial, once each; OpenSSL sees it, and the number of the list grows', async () => {
    await prepare();
    const made = await exhibit(['--json', 'pki', 'operator', 'alice', '--pki', pki]);
    const { serial } = JSON.parse(made.stdout.toString());
    await run('operator', 'bob', '--pki', pki);
    const [alice, bob] = [at('operators', 'people', 'alice.pem'), at('operators', 'people', 'bob.pem')];
    expect((await run('revoke', serial, '--pki', pki)).code).toBe(0);
    expect((await run('revoke', alice, '--pki', pki)).code).toBe(0);
    await expect(verify('operators', 'sslclient', alice)).rejects.toThrow('certificate revoked');
    expect((await verify('operators', 'sslclient', bob)).stdout).toContain('OK');
    const list = await exec('openssl', [
      'crl',
      '-noout',
      '-text',
      '-CAfile',
      at('operators', 'ca.pem'),
      '-in',
      at('operators', 'crl.pem'),
    ]);
    expect(list.stderr).toContain('verify OK');
    expect(list.stdout).toMatch(/CRL Number:\s+3\n/);
    expect(list.stdout.match(/Serial Number: /g)).toHaveLength(1);
    expect((await run('crl', '--pki', pki)).code).toBe(0);
    await expect(verify('operators', 'sslclient', alice)).rejects.toThrow('certificate revoked');
    expect((await run('show', '--pki', pki)).stdout.toString()).toMatch(
      new RegExp(`${serial} .*operator/alice .*Z +20.*Z`),
    );
  });

  test('makes serials that differ and certificates that end in 30 days, or when told', async () => {
    await prepare();
    const ends = async (...args: string[]) => {
      const made = await exhibit(['--json', 'pki', ...args, '--pki', pki]);
      const { serial, notAfter } = JSON.parse(made.stdout.toString());
      return { serial, days: Math.round((Date.parse(notAfter) - Date.now()) / 86_400_000) };
    };
    const made = [
      await ends('agent', 'a', 'b'),
      await ends('operator', 'c', '--days', '2'),
      await ends('operator', 'd', '--days', '3000'),
    ];
    expect(made.map(({ days }) => days)).toEqual([30, 2, 365]);
    expect(new Set(made.map(({ serial }) => serial)).size).toBe(3);
    expect(made.every(({ serial }) => /^[4-7][0-9A-F]{31}$/.test(serial))).toBe(true);
  });

  test.each([
    ['a path for a name', ['operator', '../../etc/x'], 'is no name'],
    ['a slash in a cluster', ['agent', 'a/b', 'c'], 'is no name'],
    ['a star', ['agent', '*', 'c'], 'is no name'],
    ['an empty name', ['operator', ''], 'is no name'],
    ['a name of a machine that is none', ['controller', '--san', 'a b'], 'neither a DNS name nor an address'],
    ['no name of a machine', ['controller'], '--san'],
    ['days that are none', ['operator', 'x', '--days', '1.5'], 'whole number'],
    ['a serial that was never issued', ['revoke', 'ABCDEF'], 'was not issued by'],
    ['a file that is none', ['revoke', '/nowhere.pem'], 'Cannot read /nowhere.pem'],
  ])('refuses %s', async (_, args, words) => {
    await prepare();
    const ran = await run(...args, '--pki', pki);
    expect(ran.code).toBe(2);
    expect(ran.stderr).toContain(words);
  });

  test('says what to do where there is no PKI, or its key is damaged, and shows nothing of the key', async () => {
    expect((await run('show', '--pki', pki)).stderr).toContain('is not made by `exhibit pki init`');
    await prepare();
    const key = await readFile(at('operators', 'ca.key'), 'utf8');
    await writeFile(at('operators', 'ca.key'), key.replace('BEGIN', 'BEGUN'));
    const ran = await run('operator', 'alice', '--pki', pki);
    expect(ran.stderr).toContain('is no private key in PEM');
    expect(ran.stderr).not.toContain(key.split('\n')[1]?.slice(0, 16));
  });
});

function contents(name: string): [string, string] {
  const file = at(name);
  return [name, statSync(file).isFile() ? readFileSync(file, 'utf8') : ''];
}
