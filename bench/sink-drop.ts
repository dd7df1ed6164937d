/**
 * An S3 server that answers what an upload needs to hear and drops every byte: what is left is the price of the sender. It counts
 * the bytes of each object, so that nothing is taken for sent that was not.
 */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface DropServer extends AsyncDisposable {
  readonly endpoint: string;
  /** Of the bodies of all parts, or of the one request; undefined before the object is complete. */
  sizeOf(key: string): number | undefined;
}

export async function startDropServer(bucket: string): Promise<DropServer> {
  const begun = new Map<string, Map<string, number>>();
  const complete = new Map<string, number>();
  const server = createServer((request, response) => {
    const url = new URL(request.url ?? '/', 'http://drop');
    const key = decodeURIComponent(url.pathname).slice(`/${bucket}/`.length);
    const part = url.searchParams.get('partNumber');
    if (request.method === 'POST' && url.searchParams.has('uploads')) {
      begun.set(key, new Map());
      return void drain(
        request,
        response,
        () => `<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>`,
      );
    }
    if (request.method === 'POST') {
      const sizes = [...(begun.get(key)?.values() ?? [])];
      complete.set(
        key,
        sizes.reduce((total, size) => total + size, 0),
      );
      return void drain(
        request,
        response,
        () => `<CompleteMultipartUploadResult><ETag>"0-${sizes.length}"</ETag></CompleteMultipartUploadResult>`,
      );
    }
    response.setHeader('ETag', '"0"');
    return void drain(request, response, (sizeBytes) => {
      if (part === null) complete.set(key, sizeBytes);
      else begun.get(key)?.set(part, sizeBytes);
      return '';
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    endpoint: `http://127.0.0.1:${port}`,
    sizeOf: (key) => complete.get(key),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

function drain(request: IncomingMessage, response: ServerResponse, answer: (sizeBytes: number) => string): void {
  let sizeBytes = 0;
  request.on('data', (chunk: Buffer) => {
    sizeBytes += chunk.length;
  });
  request.on('end', () => {
    // The SDK may wrap a body in chunks of its own, with their lengths and a checksum between them.
    const decoded = Number(request.headers['x-amz-decoded-content-length'] ?? sizeBytes);
    response.end(answer(decoded));
  });
}
