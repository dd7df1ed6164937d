import { generateKeyPairSync } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

/** A key to seal with, as an operator would make one; only its public half stays. */
export interface DemoKey extends Disposable {
  readonly privateFile: string;
  readonly publicFile: string;
}

export function makeKey(out: string): DemoKey {
  const folder = mkdtempSync(path.join(tmpdir(), 'exhibit-demo-key-'));
  const [privateFile, publicFile] = [path.join(folder, 'seal.pem'), path.join(path.resolve(out), 'seal.pub.pem')];
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  writeFileSync(privateFile, privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 });
  mkdirSync(path.dirname(publicFile), { recursive: true });
  writeFileSync(publicFile, publicKey.export({ type: 'spki', format: 'pem' }));
  return {
    privateFile,
    publicFile,
    [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }),
  };
}
