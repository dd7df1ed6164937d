/**
 * `npm test`: type check, lint, generated types, then every test. The last line on stdout is the sum of all of them,
 * `Tests: 123 passed, 0 failed, 4 skipped`; before it comes why each skipped test was skipped, and once more which failed.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Reporter, TestCase, TestModule } from 'vitest/node';
import { startVitest } from 'vitest/node';

const PROJECT = fileURLToPath(new URL('../..', import.meta.url));

/** Checks that are no tests and count as one each. A generator that does not exist yet is no check. */
const CHECKS: readonly { name: string; file: string; argv: readonly string[] }[] = [
  { name: 'type check', file: 'node_modules/.bin/tsc', argv: ['--noEmit'] },
  { name: 'lint', file: 'node_modules/.bin/biome', argv: ['check', '--colors=off', '.'] },
  { name: 'generated types', file: 'proto/generate.ts', argv: ['--check'] },
];

interface Told {
  readonly name: string;
  readonly reason: string;
}

interface Tally {
  passed: number;
  readonly failed: Told[];
  readonly skipped: Told[];
}

const say = (line: string): void => {
  process.stdout.write(`${line}\n`);
};

const seconds = (since: number): string => `${((performance.now() - since) / 1000).toFixed(1)} s`;

async function runCheck(file: string, argv: readonly string[]): Promise<boolean> {
  const path = join(PROJECT, file);
  const [program, args] = file.endsWith('.ts') ? [process.execPath, [path, ...argv]] : [path, [...argv]];
  const child = spawn(program, args, { cwd: PROJECT, stdio: ['ignore', 'inherit', 'inherit'] });
  const [code] = (await once(child, 'close')) as [number | null];
  return code === 0;
}

/** Each check goes on after another failed: one run shows everything. */
async function runChecks(tally: Tally): Promise<void> {
  for (const { name, file, argv } of CHECKS) {
    if (!existsSync(join(PROJECT, file))) continue;
    const begin = performance.now();
    const ok = await runCheck(file, argv);
    say(`${ok ? 'ok' : 'FAILED'}  ${name} (${seconds(begin)})`);
    if (ok) tally.passed += 1;
    else tally.failed.push({ name, reason: 'as told above' });
  }
}

/** The first lines of what went wrong: whoever sees the end of a log alone sees them. */
const inShort = (errors: readonly { readonly message?: string }[]): string =>
  errors.map(({ message = 'no message' }) => message.split('\n').slice(0, 3).join(' ').slice(0, 300)).join('; ');

function countTest(test: TestCase, tally: Tally): void {
  const result = test.result();
  const name = `${test.module.relativeModuleId} > ${test.fullName}`;
  if (result.state === 'passed') tally.passed += 1;
  else if (result.state === 'failed') tally.failed.push({ name, reason: inShort(result.errors) });
  else {
    // Whole suites that are skipped say why in their name.
    const named = /needs |skipped (unless|without|off) /.test(test.fullName) ? 'see its name' : 'no reason given';
    const reason = (result.state === 'skipped' && result.note) || named;
    tally.skipped.push({ name: test.fullName, reason });
  }
}

/** A file that cannot be loaded, or a hook that fails, has errors and perhaps no test: it counts as one failure. */
function countModule(module: TestModule, tally: Tally): void {
  for (const test of module.children.allTests()) countTest(test, tally);
  for (const part of [module, ...module.children.allSuites()]) {
    const errors = part.errors();
    const name = part.type === 'suite' ? `${module.relativeModuleId} > ${part.fullName}` : module.relativeModuleId;
    if (errors.length > 0) tally.failed.push({ name, reason: inShort(errors) });
  }
}

/** Of some 450 files, so many may have met a machine that had no time for them; more are no accident. */
const RUN_AGAIN = 6;

const hasFailed = (module: TestModule): boolean =>
  module.errors().length > 0 ||
  [...module.children.allTests('failed')].length > 0 ||
  [...module.children.allSuites()].some((suite) => suite.errors().length > 0);

/**
 * Counts at the end of the run. The words about failures are vitest's own reporter's. A few files that failed are not counted but
 * put into `again`, where there is such a list.
 */
function counter(tally: Tally, again: string[] | undefined): Reporter {
  return {
    onTestModuleEnd(module) {
      const failed = [...module.children.allTests('failed')].length + module.errors().length;
      const all = [...module.children.allTests()].length;
      say(
        `${failed > 0 ? 'FAILED' : 'ok'}  ${module.relativeModuleId} (${all} tests, ${(module.diagnostic().duration / 1000).toFixed(1)} s)`,
      );
    },
    onTestRunEnd(modules, unhandled) {
      const failed = modules.filter(hasFailed);
      const isFew = again !== undefined && failed.length <= RUN_AGAIN && unhandled.length === 0;
      if (isFew) again.push(...failed.map(({ moduleId }) => moduleId));
      for (const module of modules) if (!isFew || !failed.includes(module)) countModule(module, tally);
      for (const error of unhandled) tally.failed.push({ name: 'outside any test', reason: inShort([error]) });
    },
  };
}

async function runTests(filters: string[], tally: Tally, again?: string[]): Promise<void> {
  const failures = ['agent'] as const;
  const vitest = await startVitest(filters, {
    root: PROJECT,
    watch: false,
    run: true,
    passWithNoTests: true,
    reporters: [...failures, counter(tally, again)],
  });
  await vitest.close();
  // vitest sets process.exitCode; the sum below is what decides.
  process.exitCode = 0;
}

function report(tally: Tally, filters: readonly string[]): void {
  if (tally.passed + tally.failed.length + tally.skipped.length === 0) {
    tally.failed.push({ name: filters.join(' ') || 'test/', reason: 'no test matches' });
  }
  for (const { name, reason } of tally.skipped) say(`skipped: ${name}: ${reason}`);
  for (const { name, reason } of tally.failed) say(`failed: ${name}: ${reason}`);
  for (const file of again) say(`run twice, because it failed at first: ${relative(PROJECT, file)}`);
  say(`Tests: ${tally.passed} passed, ${tally.failed.length} failed, ${tally.skipped.length} skipped`);
  process.exitCode = tally.failed.length > 0 ? 1 : 0;
}

const tally: Tally = { passed: 0, failed: [], skipped: [] };
const filters = process.argv.slice(2);
if (filters.length === 0) await runChecks(tally);
const again: string[] = [];
try {
  await runTests(filters, tally, again);
  for (const file of again) {
    say(`again   ${relative(PROJECT, file)}: it failed, as told above, and is run once more, alone`);
    await runTests([file], tally);
  }
} catch (error) {
  tally.failed.push({ name: 'vitest', reason: error instanceof Error ? (error.stack ?? error.message) : `${error}` });
}
report(tally, filters);
