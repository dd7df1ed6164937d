import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseConfig as parseAgent } from '../../../agent/config.ts';
import { parseConfig as parseController } from '../../../controller/config.ts';
import { RENDER_TIMEOUT_MS, render, renderObstacle } from '../../lab/manifests.ts';
import { requireProgram } from '../evidence/programs.ts';
import { schemaFaults } from '../manifests/schemas.ts';
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
/** What the blocks of install-eks that ask AWS write down for those that follow. */
const LEFT_BY_AWS = {
  evidence_key_arn: 'arn:aws:kms:eu-central-1:444455556666:key/1234abcd-12ab-34cd-56ef-1234567890ab',
  seal_key_arn: 'arn:aws:kms:eu-central-1:444455556666:key/0987dcba-09fe-87dc-65ba-ab0987654321',
  digest: `sha256:${'0123456789abcdef'.repeat(4)}`,
};
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
        // No link: kustomize follows none out of its folder.
        cpSync(path.join(ROOT, 'manifests'), path.join(work, 'manifests'), { recursive: true });
      }
      const ran = spawnSync('bash', ['-euo', 'pipefail', '-c', text], {
        cwd: work,
        env: {
          PATH: `${folder}/bin:${path.dirname(process.execPath)}:${process.env.PATH}`,
          HOME: folder,
          ...LEFT_BY_AWS,
        },
        encoding: 'utf8',
      });
      expect(ran.status, `${ran.stdout}${ran.stderr}`).toBe(0);
    });
  }

  if (page !== 'docs/install-eks.md') return;
  const overlay = () => path.join(folder, 'work/my-overlay');
  const has = (context: Parameters<typeof requireProgram>[0]) => {
    if (!existsSync(overlay())) context.skip('the blocks before were skipped');
  };

  test('writes an overlay that kubectl builds, with the image by its digest', {
    timeout: RENDER_TIMEOUT_MS,
  }, async (context) => {
    has(context);
    const obstacle = renderObstacle();
    if (obstacle !== undefined) context.skip(obstacle);
    const objects = render(overlay());
    expect((await Promise.all(objects.map(schemaFaults))).flat()).toEqual([]);
    const images = [...JSON.stringify(objects).matchAll(/"image":"([^"]*)"/g)].map(([, image]) => image);
    const image = `111122223333.dkr.ecr.eu-central-1.amazonaws.com/exhibit@${LEFT_BY_AWS.digest}`;
    expect(images).toEqual([image, image]);
    const secrets = new Set([...JSON.stringify(objects).matchAll(/"secretName":"([^"]*)"/g)].map(([, name]) => name));
    const made = new Set(
      blocks.flatMap(({ text }) => [...text.matchAll(/create secret \S+ (\S+)/g)].map(([, name]) => name)),
    );
    made.delete('generic');
    expect([...secrets].filter((name) => !made.has(name))).toEqual([]);
  });

  test('writes configurations that the programs take, with what the policies are for', (context) => {
    has(context);
    const textOf = (name: string) => readFileSync(path.join(overlay(), name), 'utf8');
    const { cluster, sinks } = parseAgent(textOf('agent.yaml'), 'agent.yaml', {});
    expect(cluster).toBe('prod');
    expect(sinks).toMatchObject([
      { sink: { url: 's3://evidence-prod-eu/exhibit', serverSideEncryption: { keyId: LEFT_BY_AWS.evidence_key_arn } } },
    ]);
    expect(() => parseController(textOf('controller.yaml'), 'controller.yaml', {})).not.toThrow();
    const policies = ['agent-policy.json', 'bucket-policy.json', 'seal-key-policy.json'].map((name) =>
      readFileSync(path.join(folder, 'work', name), 'utf8'),
    );
    expect(policies[0]).toContain(LEFT_BY_AWS.seal_key_arn);
    expect(policies[1]).toContain('arn:aws:s3:::evidence-prod-eu/exhibit/*');
    expect(policies[2]).toContain('arn:aws:iam::111122223333:role/exhibit-agent');
  });

  test('refuses to fill a policy for which a name is missing', (context) => {
    has(context);
    const script = '. ./names.sh; unset bucket; ! fill bucket none.json && ! test -e none.json';
    const ran = spawnSync('bash', ['--norc', '-c', script], {
      cwd: path.join(folder, 'work'),
      env: { PATH: process.env.PATH, ...LEFT_BY_AWS },
      encoding: 'utf8',
    });
    expect(ran).toMatchObject({ status: 0, stderr: 'bucket.json wants bucket, which is not set\n' });
  });

  test("fills the trust of IRSA with the cluster's account, whose provider it is", (context) => {
    has(context);
    const lines = blocks.flatMap(({ text }) => text.split('\n')).filter((line) => line.includes('fill trust-irsa'));
    const ran = spawnSync('bash', ['--norc', '-euc', `. ./names.sh; ${lines.join('; ')}; cat agent-trust.json`], {
      cwd: path.join(folder, 'work'),
      env: { PATH: process.env.PATH, ...LEFT_BY_AWS, oidc_provider: 'oidc.eks.eu-central-1.amazonaws.com/id/EXAMPLE' },
      encoding: 'utf8',
    });
    expect(ran.stderr).toBe('');
    expect(ran.stdout).toContain(
      'arn:aws:iam::111122223333:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/EXAMPLE',
    );
  });
});
