/** People and machines that ask a controller from a host of the lab's network: the command line, curl, and gRPC of this process. */
import { readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { CliResult } from './agent.ts';
import { COMPILED_ONCE } from './compiled.ts';
import type { LabController } from './controller.ts';
import { type ApiClient, apiClient } from './controller-client.ts';
import { ownedName } from './leftovers.ts';
import { run } from './machine.ts';
import { startMiddlebox } from './middlebox.ts';
import type { NetHost } from './nets.ts';
import type { LabPki } from './pki.ts';

const CLI = fileURLToPath(new URL('../../cli/main.ts', import.meta.url));

/** Which controller is asked: where its API listens, and who certifies it. */
export type Asked = Pick<LabController, 'api' | 'pki'>;

export interface Operator extends AsyncDisposable {
  /** `exhibit ARGV` through the controller. */
  exhibit(controller: Asked, ...argv: string[]): Promise<CliResult>;
  /** What curl prints; throws what it says when the answer is none of 2xx. */
  curl(controller: Asked, route: string, ...argv: string[]): Promise<string>;
  /** Over TLS from end to end, through a path: this process is in no namespace of the lab. */
  client(controller: Asked): Promise<ApiClient>;
}

/** `host`: where the operator `name` sits. */
export async function startOperator(name: string, host: NetHost, pki: LabPki): Promise<Operator> {
  const files = await pki.operator(name);
  const caFile = pki.caFile('controller');
  const boxes = new Map<string, { address: string; path: string }>();
  const stack = new AsyncDisposableStack();
  const inside = async (argv: readonly string[]) => {
    const whole = [...host.enter, ...argv];
    return await run(whole[0] ?? '', whole.slice(1), { timeoutMs: 120_000, env: COMPILED_ONCE });
  };
  const boxTo = async (target: string) => {
    const known = boxes.get(target);
    if (known !== undefined) return known;
    const path = join(tmpdir(), `${ownedName()}.sock`);
    stack.defer(() => rmSync(path, { force: true }));
    const { address } = stack.use(await startMiddlebox(host, target, path));
    boxes.set(target, { address, path });
    return { address, path };
  };
  return {
    async exhibit({ api }, ...argv) {
      const whom = ['--controller', api, '--ca', caFile, '--cert', files.certFile, '--key', files.keyFile];
      const { code, stdout, stderr } = await inside([process.execPath, CLI, ...whom, ...argv]);
      return { code, stdout: stdout.toString(), stderr };
    },
    async curl({ api }, route, ...argv) {
      const fixed = ['curl', '-sS', '--fail-with-body', '--max-time', '60', '--cacert', caFile];
      const { code, stdout, stderr } = await inside([...fixed, ...argv, `https://${api}${route}`]);
      if (code !== 0) throw new Error(`curl ${route}: ${stdout.toString()} ${stderr}`);
      return stdout.toString();
    },
    client: async ({ api }) => apiClient((await boxTo(api)).address, { caFile, files }),
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

/** For curl: the operator's certificate. */
export async function certificateOf(name: string, pki: LabPki): Promise<readonly string[]> {
  const { certFile, keyFile } = await pki.operator(name);
  return ['--cert', certFile, '--key', keyFile];
}

/** A sample of an alert, as its sender would write it. */
export const sampleAlert = (file: string): unknown =>
  JSON.parse(readFileSync(new URL(`../unit/fixtures/alerts/${file}.json`, import.meta.url), 'utf8'));
