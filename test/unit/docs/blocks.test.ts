import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, symlinkSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { requireProgram } from '../evidence/programs.ts';
import { allPages, type Block, ROOT } from './pages.ts';
import { shellCommands } from './shell-commands.ts';

/** The guides say of each block of shell how it is run, or why not; those that need no bundle and no cluster are run here. */

const GUIDES = ['README.md', 'CONTRIBUTING.md', 'docs/runbook.md', 'docs/install-eks.md', 'docs/operations.md'];
/** Of other machines or accounts, or of this repository's own set-up: what cannot be run in a folder. */
const ELSEWHERE = new Set([
  'kubectl',
  'aws',
  'docker',
  'ctr',
  'npm',
  'npx',
  'apt-get',
  'timesketch_importer',
  'pg_dump',
]);
/** Programs that a machine may lack. */
const JUDGES = ['openssl', 'jq', 'age-keygen', 'envsubst'];

const blocks = (await allPages())
  .filter(({ name }) => GUIDES.includes(name))
  .flatMap((page) => page.blocks)
  .filter(({ language }) => language === 'sh');
const isRun = ({ comment }: Block): boolean => /^run: (?:bundle|controller|folder|manifests)$/.test(comment ?? '');
const here = blocks.filter(({ comment }) => comment === 'run: folder' || comment === 'run: manifests');

describe('a block of shell in a guide', () => {
  test('says how it is run, or why it is not', () => {
    expect(blocks.length).toBeGreaterThan(40);
    expect(blocks.filter(isRun).length).toBeGreaterThan(15);
    const silent = blocks.filter((block) => !isRun(block) && !/^not run: .{5}/s.test(block.comment ?? ''));
    expect(silent.map(({ at, comment }) => `${at}: ${comment}`)).toEqual([]);
  });

  test('is left out only where it needs a cluster, an account, or a program of elsewhere', () => {
    const needless = blocks.filter(({ comment, text }) => {
      if (!/^not run/.test(comment ?? '')) return false;
      const commands = shellCommands(text);
      const controlled = /^(?:asks|needs|changes) /.test(/^not run: (.*)$/s.exec(comment ?? '')?.[1] ?? '');
      return !controlled && !commands.some(([name = '']) => ELSEWHERE.has(name));
    });
    expect(needless.map(({ at, comment }) => `${at}: ${comment}`)).toEqual([]);
  });

  test('is shell', () => {
    for (const { at, text } of blocks) {
      const ran = spawnSync('bash', ['-n'], { input: text, encoding: 'utf8' });
      expect(`${at}: ${ran.stderr}`).toBe(`${at}: `);
    }
  });
});

describe.each([...new Set(here.map(({ page }) => page))])('%s', (page) => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'exhibit-docs-'));
    mkdirSync(path.join(folder, 'bin'));
    symlinkSync(path.join(ROOT, 'cli/main.ts'), path.join(folder, 'bin/exhibit'));
  });
  afterAll(async () => await rm(folder, { recursive: true, force: true }));

  /** In the page's order: one leaves names and keys to the next. */
  for (const { at, comment, text } of here.filter((block) => block.page === page)) {
    test(`has commands that work: ${at}`, { timeout: 60_000 }, (context) => {
      requireProgram(context, 'bash', ...JUDGES.filter((name) => text.includes(name)));
      const needsManifests = comment === 'run: manifests';
      const work = path.join(folder, 'work');
      mkdirSync(work, { recursive: true });
      if (needsManifests && !existsSync(path.join(work, 'manifests'))) {
        symlinkSync(path.join(ROOT, 'manifests'), path.join(work, 'manifests'));
      }
      const ran = spawnSync('bash', ['-euo', 'pipefail', '-c', text], {
        cwd: work,
        env: { PATH: `${folder}/bin:${path.dirname(process.execPath)}:${process.env.PATH}`, HOME: folder },
        encoding: 'utf8',
      });
      expect(ran.status, `${ran.stdout}${ran.stderr}`).toBe(0);
    });
  }
});
