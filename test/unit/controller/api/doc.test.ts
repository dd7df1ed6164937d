import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import type { Api } from '../../../../controller/api/api.ts';
import { ROUTES } from '../../../../controller/api/http-routes.ts';
import { startHttpLab } from '../../../lab/http-controller.ts';
import { container, labDomain, nodeRow } from '../lab-domain.ts';

const exec = promisify(execFile);
const DOC = readFileSync(path.resolve(import.meta.dirname, '../../../../docs/controller-api.md'), 'utf8');
const blocks = [...DOC.matchAll(/^```sh\n(.*?)^```$/gms)].map(([, block]) => block ?? '');

/** The API, and which of its calls were made. */
function counted(api: Api, made: Set<string>): Api {
  return new Proxy(api, {
    get: (target, call, receiver) => {
      made.add(String(call));
      return Reflect.get(target, call, receiver);
    },
  });
}

describe('docs/controller-api.md', () => {
  test('lists every route', () => {
    const rows = ROUTES.map(({ call, method, path: route }) => `| ${call} | \`${method} ${route}\` |`);
    expect(rows.filter((row) => !DOC.includes(row))).toEqual([]);
  });

  test('has examples of every call that do what they say', async () => {
    const approvals = [{ clusters: ['*'], namespaces: ['pay'], expiresMs: 60_000 }];
    await using domain = await labDomain({ rules: { approvals } });
    await domain.domain.store.putNode(nodeRow('prod', 'n1'));
    const containers = [
      container('shop', 'web-0', 'app'),
      container('shop', 'web-1', 'app'),
      container('pay', 'till-0', 'app'),
    ];
    domain.agents.set({ cluster: 'prod', node: 'n1' }, containers);
    const made = new Set<string>();
    await using lab = await startHttpLab({ api: counted(domain.api, made) });
    const folder = await mkdtemp(path.join(tmpdir(), 'exhibit-doc-'));
    try {
      for (const name of ['alice', 'bea'] as const) {
        const [, cert, , key] = name === 'alice' ? lab.asAlice : lab.asBea;
        const lines = [
          `cacert = "${lab.caFile}"`,
          `cert = "${cert}"`,
          `key = "${key}"`,
          'silent',
          'fail-with-body',
          'max-time = 20',
        ];
        await writeFile(path.join(folder, `${name}.curl`), `${lines.join('\n')}\n`);
      }
      let CAPTURE = '';
      for (const block of blocks) {
        const env = { ...process.env, API: lab.url(''), CAPTURE };
        const { stdout } = await exec('bash', ['-e', '-c', block], { cwd: folder, env });
        expect(stdout).not.toBe('');
        CAPTURE = /"captureId":"([0-9a-f-]{36})"/.exec(stdout)?.[1] ?? CAPTURE;
        if (block.includes('/watch')) expect(stdout).toContain('event: end');
      }
      const { rows } = await domain.domain.store.captures({}, { limit: 10 });
      expect(rows.map(({ selector, state }) => [selector, state]).sort()).toEqual([
        [expect.stringContaining('pay/till-0'), 'denied'],
        [expect.stringContaining('pay/till-0'), 'queued'],
        [expect.stringContaining('shop/web-0'), 'cancelled'],
      ]);
      expect([...made].sort()).toEqual(ROUTES.map(({ call }) => call as string).sort());
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
});
