/** What pods of a lab node need of an S3 server of this machine, which they have no way to, and what they wrote there. */
import { rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Manifest } from '../../evidence/manifest.ts';
import { ownedName } from './leftovers.ts';
import { startMiddlebox } from './middlebox.ts';
import { type LabNode, NODE_ADDRESS } from './node.ts';
import type { LabS3 } from './s3.ts';

/** A port of the node that leads to the server. @param address of the node; that of its pods' network unless told */
export async function wayToS3(
  s3: LabS3,
  node: Pick<LabNode, 'initPid'>,
  address: string = NODE_ADDRESS,
): Promise<{ endpoint: string } & AsyncDisposable> {
  await using stack = new AsyncDisposableStack();
  const path = join(tmpdir(), `${ownedName()}.sock`);
  stack.defer(() => rmSync(path, { force: true }));
  const here = { name: 'this machine', address: '127.0.0.1', enter: [] };
  stack.use(await startMiddlebox(here, new URL(s3.endpoint).host, path));
  const enter = ['nsenter', `--net=/proc/${node.initPid}/ns/net`, '--'];
  const box = stack.use(await startMiddlebox({ name: 'the node', address, enter }, path));
  const open = stack.move();
  return { endpoint: `http://${box.address}`, [Symbol.asyncDispose]: () => open.disposeAsync() };
}

/** @param bundle `s3://BUCKET/KEY`, without a slash at its end */
export async function manifestIn(s3: LabS3, bundle: string): Promise<Manifest> {
  const { GetObjectCommand } = await import('@aws-sdk/client-s3');
  const client = s3.client();
  try {
    const key = `${new URL(bundle).pathname.slice(1)}/manifest.json`;
    const { Body } = await client.send(new GetObjectCommand({ Bucket: s3.bucket, Key: key }));
    return JSON.parse((await Body?.transformToString()) ?? '');
  } finally {
    client.destroy();
  }
}
