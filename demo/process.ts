/** Without root: a process tree of the demo's own, "compromised" as far as a plain user can, for the `host` runtime. */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, copyFileSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';

export interface LocalVictim extends AsyncDisposable {
  readonly pid: number;
  readonly secret: string;
}

/** The secret exists only in the memory of the process: its argument is the reverse. */
const HOLDER = `
  const secret = [...process.argv[1]].reverse().join('');
  require('node:child_process').spawn(process.argv[2], ['600'], { argv0: '[kworker/u8:2]', stdio: 'ignore' });
  const socket = require('node:net').connect(Number(process.argv[3]), '127.0.0.1', () => console.log('ready'));
  setInterval(() => { if (secret.length < 0) socket.destroy(); }, 1000);`;

const SLEEP = ['/bin/sleep', '/usr/bin/sleep'];

export async function startLocalVictim(): Promise<LocalVictim> {
  const folder = mkdtempSync(path.join(tmpdir(), 'exhibit-demo-'));
  const dropped = path.join(folder, 'kworker');
  copyFileSync(SLEEP.find((file) => existsSync(file)) ?? '/bin/sleep', dropped);
  chmodSync(dropped, 0o755);
  const listener = net.createServer(() => undefined).listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address() as net.AddressInfo;
  const secret = `EXHIBIT-SECRET-${randomBytes(12).toString('hex')}`;
  const reversed = [...secret].reverse().join('');
  const child = spawn(process.execPath, ['-e', HOLDER, reversed, dropped, String(port)], {
    stdio: ['ignore', 'pipe', 'inherit'],
    detached: true,
  });
  await once(child.stdout, 'data');
  rmSync(folder, { recursive: true });
  return {
    pid: child.pid ?? 0,
    secret,
    [Symbol.asyncDispose]: async () => {
      // The holder and what it started are one process group of their own.
      process.kill(-(child.pid ?? 0), 'SIGKILL');
      await once(child, 'exit');
      listener.close();
    },
  };
}
