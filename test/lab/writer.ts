/** An agent's half, to be killed: writes whole parts and one byte, says so, and waits. */
import { openSink, type SinkConfig } from '../../agent/sink/open.ts';
import { openVault } from '../../agent/sink/vault.ts';

interface Order {
  readonly config: SinkConfig;
  readonly credentials: { readonly accessKeyId: string; readonly secretAccessKey: string };
  readonly folder: string;
  /** In hex. */
  readonly secret: string;
  readonly key: string;
  readonly afterParts: number;
  readonly partBytes: number;
}

process.once('message', (order: Order) => void write(order));

async function write({ config, credentials, folder, secret, key, afterParts, partBytes }: Order): Promise<void> {
  const vault = await openVault(folder, Buffer.from(secret, 'hex'));
  const sink = openSink({ ...config, writeAhead: true }, { credentials, vault });
  const object = await sink.open(key, { contentType: 'application/zstd', signal: new AbortController().signal });
  // One byte more than the parts, or the last of them would not be one yet.
  await object.write(Buffer.alloc(afterParts * partBytes + 1, 'evidence '));
  process.send?.('written');
}
