import { globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';

/** DESIGN's rules about who may import whom. A file that wants to break one is a sign to move the line. */

const ROOT = path.resolve(import.meta.dirname, '../..');
const files = globSync('{agent,evidence,controller,cli,proto}/**/*.ts', { cwd: ROOT }).filter(
  (file) => !file.includes('/gen/'),
);

/** Modules imported by `file`: paths from the root for our own, names for packages. Types only are not code. */
function imports(file: string, options: { types: boolean }): string[] {
  const text = readFileSync(path.join(ROOT, file), 'utf8');
  const found = [
    ...text.matchAll(/^(?:import|export)\s+(type\s+)?(?:[^'";]*?\sfrom\s+)?'([^']+)'/gms),
    ...text.matchAll(/(?<=\W)(?<type>)import\('([^']+)'\)/g),
  ];
  return found
    .filter(([, type]) => options.types || type === undefined || type === '')
    .map(([, , name]) => name ?? '')
    .map((name) => (name.startsWith('.') ? path.posix.join(path.posix.dirname(file), name) : name));
}

function breaches(
  of: (file: string) => boolean,
  forbidden: (module: string, file: string) => boolean,
  options = { types: false },
): string[] {
  return files.filter(of).flatMap((file) =>
    imports(file, options)
      .filter((module) => forbidden(module, file))
      .map((module) => `${file} imports ${module}`),
  );
}

describe('the tree', () => {
  test('is read by this test at all', () => {
    expect(files.length).toBeGreaterThan(20);
    expect(imports('agent/capture/plan.ts', { types: true })).toContain('evidence/manifest.ts');
  });

  test('evidence/ imports nothing of the other folders', () => {
    expect(
      breaches(
        (file) => file.startsWith('evidence/'),
        (module) => /^(agent|cli|controller|proto|test)\//.test(module),
        { types: true },
      ),
    ).toEqual([]);
  });

  test('plan.ts, ladder.ts and volatility.ts do no I/O', () => {
    const pure = ['agent/capture/plan.ts', 'agent/capture/ladder.ts', 'agent/capture/volatility.ts'];
    expect(
      breaches(
        (file) => pure.includes(file),
        (module) => !pure.includes(module),
      ),
    ).toEqual([]);
  });

  test('collect/ reaches the node only through host/ and runtime/', () => {
    const allowed = /^(agent\/(collect|host|runtime)\/|evidence\/)/;
    const pureNode = ['node:crypto', 'node:path', 'node:buffer', 'node:timers/promises'];
    expect(
      breaches(
        (file) => file.startsWith('agent/collect/'),
        (module) => !allowed.test(module) && !pureNode.includes(module),
      ),
    ).toEqual([]);
  });

  test('doctor/ reaches the node only through host/, runtime/, sign/ and sink/, and decides with what a capture decides with', () => {
    const allowed =
      /^(agent\/(doctor|host|runtime|sign|sink)\/|agent\/collect\/memory-strategy\.ts$|agent\/capture\/ladder\.ts$|agent\/(config|policy)\.ts$|evidence\/)/;
    const found = files.filter((file) => file.startsWith('agent/doctor/'));
    expect(found.length).toBeGreaterThan(5);
    expect(
      breaches(
        (file) => found.includes(file),
        (module) => !allowed.test(module),
      ),
    ).toEqual([]);
  });

  test('controller/ shares with the agent only selectors, sizes, how a configuration is read, log levels, stop signals and the port of metrics', () => {
    const allowed =
      /^(controller|evidence|proto)\/|^agent\/(runtime\/select|byte-size|config-file|log-level|machine-port|stop-signals|metrics\/process)\.ts$/;
    expect(
      breaches(
        (file) => file.startsWith('controller/'),
        (module) => /^(agent|cli|test)\//.test(module) && !allowed.test(module),
      ),
    ).toEqual([]);
  });

  test('agent/ knows nothing of the controller but its messages', () => {
    expect(
      breaches(
        (file) => file.startsWith('agent/'),
        (module) => module.startsWith('controller/'),
        { types: true },
      ),
    ).toEqual([]);
  });

  test('only a main.ts constructs adapters', () => {
    const adapters =
      /^agent\/(runtime\/(cri|containerd|docker|host)|sink\/(open|local|s3)|sign\/(open|kms|authorities)|trigger\/\w+)\.ts$/;
    const mayBuild = (file: string) =>
      file.endsWith('/main.ts') ||
      adapters.test(file) ||
      file.startsWith('agent/runtime/') ||
      file.startsWith('agent/sign/') ||
      file.startsWith('agent/sink/');
    const breachesFound = breaches(
      (file) => !mayBuild(file),
      (module) => adapters.test(module) && !/^agent\/(sign|sink)\/open\.ts$/.test(module),
    );
    expect(breachesFound).toEqual([]);
  });
});
