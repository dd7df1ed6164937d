import { DeleteObjectsCommand, PutObjectCommand } from '@aws-sdk/client-s3';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { openCaptureFolder } from '../../evidence/captures.ts';
import { requireS3 } from '../lab/requires.ts';
import { type LabS3, startMoto, startS3 } from '../lab/s3.ts';
import { exhibit } from '../unit/cli/run.ts';
import { CHAIN_ID, captureIdOf, chainOfBundles } from '../unit/evidence/custody-bundle.ts';

/** S3 answers so many names a page; one folder more needs a second page. */
const PAGE = 1000;

async function put(server: LabS3, objects: readonly (readonly [key: string, bytes: Uint8Array])[]): Promise<void> {
  const client = server.client();
  try {
    for (const [Key, Body] of objects) await client.send(new PutObjectCommand({ Bucket: server.bucket, Key, Body }));
  } finally {
    client.destroy();
  }
}

async function removeCapture(server: LabS3, prefix: string, names: Iterable<string>): Promise<void> {
  const client = server.client();
  try {
    const Objects = [...names].map((name) => ({ Key: `${prefix}/${name}` }));
    await client.send(new DeleteObjectsCommand({ Bucket: server.bucket, Delete: { Objects } }));
  } finally {
    client.destroy();
  }
}

for (const [name, start] of [
  ['radosgw', startS3],
  ['moto', startMoto],
] as const) {
  describe(`the chain of captures in ${name}`, () => {
    it('is whole, and has a hole where a capture was removed', async (context) => {
      requireS3(context);
      await using server = await start();
      const folder = 'evidence/prod/node-1';
      const captures = await chainOfBundles(4);
      const all = [...captures].flatMap(([id, objects]) =>
        [...objects].map(([object, bytes]) => [`${folder}/${id}/${object}`, bytes] as const),
      );
      await put(server, all);
      const { region, accessKeyId, secretAccessKey } = server;
      const env = { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey, AWS_REGION: region };
      const verify = async (place: string) => {
        const url = `s3://${server.bucket}/${place}`;
        const ran = await exhibit(['verify', url, '--chain', '--endpoint', server.endpoint, '--json'], { env });
        expect(ran.stderr).toBe('');
        return { code: ran.code, report: JSON.parse(ran.stdout.toString()) };
      };
      const whole = await verify(`${folder}/${captureIdOf(2)}`);
      expect(whole).toMatchObject({ code: 0, report: { intact: true, chain: { whole: true, captures: 4 } } });
      await removeCapture(server, `${folder}/${captureIdOf(3)}`, captures.get(captureIdOf(3))?.keys() ?? []);
      const hole = await verify(folder);
      expect(hole).toMatchObject({ code: 1, report: { chain: { whole: false, captures: 3 } } });
      expect(hole.report.chain.findings[0].message).toBe(
        `capture 3 of chain ${CHAIN_ID} (${captureIdOf(3)}), between ${captureIdOf(2)} and ${captureIdOf(4)}, is not here`,
      );
    });
  });
}

afterEach(() => void vi.unstubAllEnvs());

describe('a folder of more captures than S3 lists at once', () => {
  it('is listed to its end', async (context) => {
    requireS3(context);
    await using server = await startMoto();
    const names = Array.from({ length: PAGE + 1 }, (_, n) => `many/${captureIdOf(n)}/request.json`);
    await put(
      server,
      names.map((key) => [key, Buffer.from('{}')] as const),
    );
    vi.stubEnv('AWS_ACCESS_KEY_ID', server.accessKeyId);
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', server.secretAccessKey);
    const { endpoint, region, bucket } = server;
    await using folder = await openCaptureFolder(`s3://${bucket}/many`, { endpoint, region });
    const found: string[] = [];
    for await (const name of folder.list()) found.push(name);
    expect(found).toEqual(Array.from({ length: PAGE + 1 }, (_, n) => captureIdOf(n)));
  });
});
