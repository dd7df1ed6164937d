import { readFile, rm, writeFile } from 'node:fs/promises';
import http from 'node:http';
import path from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { generateSigner } from '../../../evidence/seal.ts';
import { CAPTURE_ID } from './fake-agent.ts';
import { exhibit, onTerminal, TEST_TIMEOUT_MS } from './run.ts';
import { serveAsS3 } from './s3-server.ts';
import { type SomeBundle, someBundle } from './some-bundle.ts';

vi.setConfig({ testTimeout: TEST_TIMEOUT_MS });

async function keyFile(bundle: SomeBundle, signer = bundle.signer): Promise<string> {
  const file = path.join(bundle.folder, 'key.pem');
  await writeFile(file, signer.publicKey.export({ type: 'spki', format: 'pem' }));
  return file;
}

describe('verify', () => {
  test('of an intact bundle exits 0 and says what that proves and what not', async () => {
    await using some = await someBundle();
    const ran = await exhibit(['verify', some.bundle]);
    const text = ran.stdout.toString();
    expect(ran).toMatchObject({ code: 0, stderr: '' });
    expect(text).toMatch(/^INTACT\n/);
    expect(text).toContain(`capture  ${CAPTURE_ID}\n`);
    expect(text).toContain('checked  4 objects, 9 members, ');
    expect(text).toContain('\nThis proves:\n  ');
    expect(text).toContain('\nThis does not prove:\n  Who signed');
  });

  test('takes a file:// URL, as capture prints it', async () => {
    await using some = await someBundle();
    expect((await exhibit(['verify', `file://${some.bundle}`])).code).toBe(0);
  });

  test('believes a key given with --trust, and no other', async () => {
    await using some = await someBundle();
    const trusted = await exhibit(['verify', some.bundle, '--trust', await keyFile(some), '--json']);
    expect(trusted.code).toBe(0);
    expect(JSON.parse(trusted.stdout.toString())).toMatchObject({ intact: true, signer: { trusted: true } });
    const other = await exhibit([
      'verify',
      '--json',
      '--trust',
      await keyFile(some, generateSigner()),
      '--',
      some.bundle,
    ]);
    expect(other.code).toBe(1);
    expect(JSON.parse(other.stdout.toString())).toMatchObject({ intact: false, signer: { trusted: false } });
  });

  test('of a changed byte exits 1 and names the artifact and the object', async () => {
    await using some = await someBundle();
    const file = path.join(some.bundle, 'processes.tar.zst');
    const bytes = await readFile(file);
    bytes.writeUInt8(bytes.readUInt8(200) ^ 1, 200);
    await writeFile(file, bytes);
    const ran = await exhibit(['verify', some.bundle]);
    expect(ran.code).toBe(1);
    expect(ran.stdout.toString()).toMatch(/^NOT INTACT\n/);
    expect(ran.stdout.toString()).toMatch(
      /\n {2}error object-digest: .*processes\.tar\.zst.* \(artifact processes\)\n/,
    );
  });

  test('of a missing and of an added object exits 1', async () => {
    await using some = await someBundle();
    await rm(path.join(some.bundle, 'inventory.jsonl.zst'));
    await writeFile(path.join(some.bundle, 'planted'), '');
    const ran = await exhibit(['verify', some.bundle, '--json']);
    const codes = JSON.parse(ran.stdout.toString()).findings.map((finding: { code: string }) => finding.code);
    expect(ran.code).toBe(1);
    expect(codes).toEqual(expect.arrayContaining(['object-missing', 'object-unlisted']));
  });

  test('of a capture that was never sealed exits 1 and says so first', async () => {
    await using some = await someBundle({ seal: false });
    const ran = await exhibit(['verify', some.bundle]);
    expect(ran.code).toBe(1);
    expect(ran.stdout.toString()).toMatch(/^NOT INTACT: this capture was never sealed\n/);
  });

  test('of no bundle, and with keys that are none, exits with a sentence', async () => {
    await using some = await someBundle();
    const nothing = await exhibit(['verify', '/nonexistent']);
    expect(nothing).toMatchObject({ code: 1, stderr: 'exhibit: there is no folder /nonexistent\n' });
    const empty = await exhibit(['verify', some.folder, '--json']);
    expect(JSON.parse(empty.stderr).error.code).toBe('bundle-not-found');
    const noKey = await exhibit(['verify', some.bundle, '--trust', '/nonexistent/key']);
    expect(noKey.code).toBe(2);
    expect(noKey.stderr).toContain('The key /nonexistent/key cannot be read');
    const badKey = await exhibit(['verify', some.bundle, '--trust', path.join(some.bundle, 'request.json')]);
    expect(badKey.code).toBe(2);
  });

  test('shows its progress on a terminal and takes it away again', async () => {
    await using some = await someBundle();
    const ran = await onTerminal(['verify', some.bundle]);
    expect(ran.code).toBe(0);
    expect(ran.stdout.toString()).toContain('INTACT\r\n');
    expect(ran.stdout.toString().lastIndexOf('\x1b[?25h')).toBeGreaterThan(
      ran.stdout.toString().lastIndexOf('\x1b[?25l'),
    );
  });
});

describe('verify s3://', () => {
  const env = { AWS_ACCESS_KEY_ID: 'key', AWS_SECRET_ACCESS_KEY: 'secret', AWS_EC2_METADATA_DISABLED: 'true' };

  test('reads from the endpoint, in the region, with the bucket in the path', async () => {
    await using some = await someBundle();
    await using s3 = await serveAsS3(some.bundle, 'evidence', `c1/n1/${CAPTURE_ID}`);
    const args = [`s3://evidence/c1/n1/${CAPTURE_ID}`, '--endpoint', s3.endpoint, '--region', 'eu-central-1'];
    const ran = await exhibit(['verify', ...args, '--path-style'], { env });
    expect(ran.stderr).toBe('');
    expect(ran.stdout.toString()).toMatch(/^INTACT\n/);
    expect(s3.requests.every((request) => request.path.startsWith('/evidence'))).toBe(true);
    expect(s3.requests[0]?.authorization).toContain('/eu-central-1/s3/aws4_request');
    const extracted = await exhibit(['extract', ...args, 'processes', '17/status'], { env });
    expect(extracted.stdout.toString()).toContain('Name: sh');
  });

  test('that hangs is left with Ctrl-C', async () => {
    const server = http.createServer(() => undefined);
    await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
    const address = server.address();
    const port = typeof address === 'object' ? address?.port : undefined;
    server.once('request', () => setTimeout(() => left.abort(), 100));
    const left = new AbortController();
    const args = ['verify', 's3://evidence/x', '--region', 'us-east-1', '--endpoint', `http://127.0.0.1:${port}`];
    const ran = await exhibit(args, { env, interrupt: left.signal });
    server.closeAllConnections();
    server.close();
    expect(ran).toMatchObject({ code: 130, stderr: 'exhibit: Stopped by SIGINT.\n' });
  });

  test('ends with a sentence when nothing is there, and when nobody answers', async () => {
    await using some = await someBundle();
    await using s3 = await serveAsS3(some.bundle, 'evidence', 'elsewhere');
    const args = ['verify', 's3://evidence/c1/n1/x', '--region', 'us-east-1'];
    const nothing = await exhibit([...args, '--endpoint', s3.endpoint], { env });
    expect(nothing.code).toBe(1);
    expect(nothing.stderr).toContain('holds no capture');
    const nobody = await exhibit([...args, '--endpoint', 'http://127.0.0.1:9'], {
      env: { ...env, AWS_MAX_ATTEMPTS: '1' },
    });
    expect(nobody.code).toBe(1);
    expect(nobody.stderr.split('\n')).toHaveLength(2);
  });
});
