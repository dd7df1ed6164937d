import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { AGENT_LABELS } from '../../../cli/kubernetes/placement.ts';
import { labRoot } from '../../lab/cache.mjs';
import { type Answers, kubectlExhibit, PLUGIN } from './plugin.ts';
import { TEST_TIMEOUT_MS } from './run.ts';

vi.setConfig({ testTimeout: TEST_TIMEOUT_MS });

const WEB: Answers = { pod: 'prod/web-0/n1/Running', agents: 'exhibit-a/Running/True\n' };
const THREE: Answers = {
  ...WEB,
  pods: 'prod/web-0/n1/Running\nprod/web-1/n2/Running\nprod/web-2/-/Pending\n',
};
const NASTY = ['$(touch /tmp/owned)', '`id`', `'; id; '`, 'a b', '*', '../..', '-x', '\x1b[2J'];

/** The lab's own, which is linked statically. */
const BUSYBOX = path.join(labRoot(), 'usr/bin/busybox');

/** What kubectl was given for exec, from the word exec on. */
const execs = (calls: readonly (readonly string[])[]) =>
  calls.filter((words) => words.includes('exec')).map((words) => words.slice(words.indexOf('exec')));

describe('the script', () => {
  test('can be run, and names the agents as the command line does', async () => {
    accessSync(PLUGIN, constants.X_OK);
    const text = await readFile(PLUGIN, 'utf8');
    expect(text).toContain(`AGENT_LABELS='${AGENT_LABELS}'`);
    expect(text).not.toMatch(/\beval\b.*\$/);
  });

  test('is what package.json puts on the PATH', async () => {
    const { bin } = JSON.parse(await readFile(new URL('../../../package.json', import.meta.url), 'utf8'));
    expect(bin['kubectl-exhibit']).toBe('cli/kubectl-exhibit');
  });

  test('pleases shellcheck', (context) => {
    const checked = spawnSync('shellcheck', [PLUGIN], { encoding: 'utf8' });
    if (checked.error !== undefined) context.skip('needs shellcheck (Debian has it)');
    expect(checked.stdout).toBe('');
    expect(checked.status).toBe(0);
  });

  const shells = [
    ['dash'],
    ['bash', '--posix'],
    ['bash'],
    [BUSYBOX, 'sh'],
    ['ksh'],
    ['mksh'],
    ['yash'],
    ['zsh', '--emulate', 'sh'],
  ];
  test.for(shells)('is the same to %s %s', async (shell, context) => {
    const [program = ''] = shell;
    const folders = ['/bin', '/usr/bin', ''].map((folder) => path.join(folder, program));
    if (!folders.some((one) => path.isAbsolute(one) && existsSync(one))) context.skip(`needs ${program}`);
    const words = ['--reason', NASTY.join(' '), '--case', '', '--as-group=a b', '--as-group', 'c'];
    const ran = await kubectlExhibit(['capture', 'pod/web-0', '-nprod', ...words], WEB, { shell });
    expect(ran.code).toBe(0);
    expect(execs(ran.calls)).toEqual([
      [
        ...['exec', '--namespace=exhibit', 'exhibit-a', '--container=agent', '--', 'exhibit', 'capture', 'prod/web-0'],
        ...[`--reason=${NASTY.join(' ')}`, '--case='],
      ],
    ]);
    for (const call of ran.calls) expect(call.slice(0, 2)).toEqual(['--as-group=c', '--as-group=a b']);
  });
});

describe('capture', () => {
  test('asks for the pod, the agent of its node, and runs exhibit there', async () => {
    const ran = await kubectlExhibit(
      ['capture', 'pod/web-0', '-n', 'prod', '-c', 'app', '--case', 'IR 7', '--force', '--detach'],
      {
        ...WEB,
        exec: 'echo the-id; echo progress >&2; return 0',
      },
    );
    expect(ran).toMatchObject({ code: 0, stdout: 'the-id\n' });
    expect(ran.stderr).toBe('kubectl-exhibit: prod/web-0 is on node n1, asking exhibit/exhibit-a\nprogress\n');
    const [pod = [], agents = [], exec = []] = ran.calls;
    expect(pod.slice(0, 4)).toEqual(['get', 'pod', 'web-0', '--namespace=prod']);
    expect(agents.slice(0, 5)).toEqual([
      ...['get', 'pods', '--namespace=exhibit', `--selector=${AGENT_LABELS}`],
      '--field-selector=spec.nodeName=n1',
    ]);
    expect(exec).toEqual([
      ...[
        'exec',
        '--namespace=exhibit',
        'exhibit-a',
        '--container=agent',
        '--',
        'exhibit',
        'capture',
        'prod/web-0/app',
      ],
      ...['--case=IR 7', '--force', '--detach'],
    ]);
    expect(ran.calls).toHaveLength(3);
  });

  test('gives each call what is for kubectl, and exhibit none of it', async () => {
    const given = [
      ...['--context', 'c 1', '--kubeconfig=/k', '--cluster', 'cl', '--user', 'u', '--as=me', '--as-uid', '7'],
      ...['--as-group', 'g', '-s', 'https://h', '--token', 't', '--certificate-authority', 'ca', '--client-key', 'ck'],
      ...['--client-certificate', 'cc', '--tls-server-name', 'sn', '--insecure-skip-tls-verify', '--cache-dir', '/c'],
    ];
    const ran = await kubectlExhibit([...given, 'capture', 'web-0', '--request-timeout', '3s'], WEB);
    const wanted = [
      ...['--context=c 1', '--kubeconfig=/k', '--cluster=cl', '--user=u', '--as=me', '--as-uid=7', '--as-group=g'],
      ...['--server=https://h', '--token=t', '--tls-server-name=sn', '--certificate-authority=ca'],
      ...['--client-certificate=cc', '--client-key=ck', '--insecure-skip-tls-verify=true', '--cache-dir=/c'],
    ];
    expect(ran.calls).toHaveLength(3);
    for (const call of ran.calls) expect(call.slice(0, wanted.length)).toEqual(wanted);
    expect(ran.calls.map((call) => call.includes('--request-timeout=3s'))).toEqual([true, true, false]);
    expect(execs(ran.calls)[0]?.slice(5)).toEqual(['exhibit', 'capture', 'prod/web-0']);
  });

  test.each([
    [['pods/web-0'], ['web-0', '--request-timeout=20s']],
    [
      ['po/web-0', '--namespace=prod'],
      ['web-0', '--namespace=prod'],
    ],
    [['prod/web-0'], ['web-0', '--namespace=prod']],
    [['prod/web-0/app'], ['web-0', '--namespace=prod']],
    [
      ['web-0', '-n=prod'],
      ['web-0', '--namespace=prod'],
    ],
  ])('takes %j', async (args, words) => {
    const ran = await kubectlExhibit(['capture', ...args], WEB);
    expect(ran.code).toBe(0);
    expect(ran.calls[0]).toEqual(expect.arrayContaining(words));
    expect(execs(ran.calls)[0]?.[7]).toBe(args[0] === 'prod/web-0/app' ? 'prod/web-0/app' : 'prod/web-0');
  });

  test('finds the agents in another namespace, by option or environment', async () => {
    const env = { EXHIBIT_NAMESPACE: 'sec' };
    const byEnv = await kubectlExhibit(['capture', 'web-0'], WEB, { env });
    const byOption = await kubectlExhibit(['capture', 'web-0', '--agent-namespace', 'forensics'], WEB, { env });
    expect(execs(byEnv.calls)[0]?.[1]).toBe('--namespace=sec');
    expect(execs(byOption.calls)[0]?.[1]).toBe('--namespace=forensics');
  });

  test('hands on what stands behind --', async () => {
    const ran = await kubectlExhibit(['capture', 'web-0', '--json', '--', '--new-option', '--', 'x'], WEB);
    expect(execs(ran.calls)[0]?.slice(7)).toEqual(['prod/web-0', '--json', '--new-option', '--', 'x']);
  });

  test.each([0, 1, 2, 3, 130, 143])('ends with the code %i of exhibit', async (code) => {
    const ran = await kubectlExhibit(['capture', 'web-0'], { ...WEB, 'can-i': 'yes\n', exec: `return ${code}` });
    expect(ran.code).toBe(code);
  });

  test('prefers the agent that is ready, and asks one that is not with a word about its node', async () => {
    const two = 'exhibit-a/Running/False\nexhibit-b/Running/True\n';
    const ready = await kubectlExhibit(['capture', 'web-0'], { ...WEB, agents: two });
    expect(execs(ready.calls)[0]?.[2]).toBe('exhibit-b');
    const unready = await kubectlExhibit(['capture', 'web-0'], {
      ...WEB,
      agents: 'exhibit-a/Running/False\n',
      node: 'Unknown',
    });
    expect(unready.code).toBe(0);
    expect(unready.stderr).toContain('the node n1 is not ready: its kubelet may not answer');
    expect(unready.stderr).toContain('the agent exhibit-a on node n1 is not ready; asking it all the same');
  });
});

describe('several pods', () => {
  test.each([['-l', 'app=web'], ['--selector=app=web'], ['deploy/web']])(
    'of %s are listed, and nothing begins',
    async (...args) => {
      const ran = await kubectlExhibit(['capture', ...args], { ...THREE, workload: 'prod/app=web,' });
      expect(ran.code).toBe(2);
      expect(ran.stderr).toContain('3 pods fit');
      expect(ran.stderr).toContain(
        '  prod/web-0  Running  node n1\n  prod/web-1  Running  node n2\n  prod/web-2  Pending  node -\n',
      );
      expect(execs(ran.calls)).toEqual([]);
      expect(ran.calls.find((words) => words[1] === 'pods')).toContain('--selector=app=web');
    },
  );

  test('are captured one after the other with --all, and one that cannot be costs the others nothing', async () => {
    const ran = await kubectlExhibit(['capture', '-l', 'app=web', '--all', '--case', 'a b'], THREE);
    expect(ran.code).toBe(1);
    expect(execs(ran.calls).map((words) => words.slice(6))).toEqual([
      ['capture', 'prod/web-0', '--case=a b'],
      ['capture', 'prod/web-1', '--case=a b'],
    ]);
    expect(ran.stderr).toContain('prod/web-2 is Pending and has no node yet');
  });

  test('are not all begun after Ctrl-C in one', async () => {
    const ran = await kubectlExhibit(['capture', '-l', 'app=web', '--all'], { ...THREE, exec: 'return 130' });
    expect(ran.code).toBe(130);
    expect(execs(ran.calls)).toHaveLength(1);
  });

  test('cannot have one id', async () => {
    const ran = await kubectlExhibit(['capture', '-l', 'app=web', '--all', '--id', 'x'], THREE);
    expect(ran.code).toBe(2);
    expect(execs(ran.calls)).toEqual([]);
  });

  test('are at most fifty', async () => {
    const pods = Array.from({ length: 51 }, (_, at) => `prod/web-${at}/n1/Running\n`).join('');
    const ran = await kubectlExhibit(['capture', '-l', 'app=web', '--all'], { ...THREE, pods });
    expect(ran.stderr).toContain('51 pods fit, more than 50');
    expect(execs(ran.calls)).toEqual([]);
  });

  test('of a workload that selects by expressions must be named by labels', async () => {
    const ran = await kubectlExhibit(['capture', 'deploy/web'], { ...THREE, workload: 'prod/!' });
    expect(ran.stderr).toContain('deploy/web selects its pods by expressions: name the pods with -l');
    expect(ran.code).toBe(1);
  });
});

describe('the other commands', () => {
  test.each([
    [['containers', '--node', 'n1'], ['containers']],
    [
      ['captures', 'pod/web-0', '--limit', '5', '--json'],
      ['captures', '--limit=5', '--json'],
    ],
    [['doctor', 'web-0'], ['doctor']],
    [
      ['show', '019c', '--node=n1'],
      ['show', '019c'],
    ],
    [
      ['cancel', '019c', 'prod/web-0'],
      ['cancel', '019c'],
    ],
  ])('%j ask the agent of one node', async (args, words) => {
    const ran = await kubectlExhibit(args, WEB);
    expect(ran).toMatchObject({ code: 0, stderr: '' });
    expect(execs(ran.calls)).toEqual([
      ['exec', '--namespace=exhibit', 'exhibit-a', '--container=agent', '--', 'exhibit', ...words],
    ]);
  });

  test('need no node where there is one agent, and name one where there are several', async () => {
    const one = await kubectlExhibit(['captures'], { agents: 'exhibit/exhibit-a/n1/Running\n' });
    expect(execs(one.calls)[0]?.[2]).toBe('exhibit-a');
    const two = await kubectlExhibit(['captures'], {
      agents: 'exhibit/exhibit-a/n1/Running\nexhibit/exhibit-b/n2/Running\n',
    });
    expect(two).toMatchObject({ code: 2, stderr: expect.stringContaining('which of 2 nodes?') });
  });

  test('help is an answer, and no command is a mistake', async () => {
    for (const args of [['help'], ['--help'], ['capture', '-h']]) {
      const ran = await kubectlExhibit(args);
      expect(ran).toMatchObject({ code: 0, stderr: '', calls: [] });
      expect(ran.stdout).toContain('kubectl exhibit capture TARGET [options]');
    }
    expect(await kubectlExhibit([])).toMatchObject({ code: 2, stdout: '', calls: [] });
  });
});

describe('what is wrong', () => {
  test.each<[string, readonly string[], Answers, string]>([
    [
      'no such pod',
      ['web-0', '-n', 'prod'],
      { pod: { stderr: 'Error: NotFound\n', code: 1 } },
      'the pod web-0 cannot be looked up, for the reason above (this needs the right to get pods in namespace prod)',
    ],
    ['no such labels', ['-l', 'app=x'], { pods: '' }, 'no pod has the labels app=x'],
    ['a pod without a node', ['web-0'], { pod: 'prod/web-0/-/Pending' }, 'prod/web-0 is Pending and has no node yet'],
    [
      'no agent',
      ['web-0'],
      { ...WEB, agents: '', node: 'True' },
      'prod/web-0 runs on node n1, and no agent runs there in namespace exhibit',
    ],
    ['no agent, on a node that is away', ['web-0'], { ...WEB, agents: '', node: 'False' }, 'the node n1 is not ready'],
    [
      'an agent that starts',
      ['web-0'],
      { ...WEB, agents: 'exhibit-a/Pending/\n', node: { code: 1 } },
      'the agent there does not run yet (exhibit-a is Pending)',
    ],
    [
      'agents that may not be listed',
      ['web-0'],
      { ...WEB, agents: { code: 1 } },
      'the agents in namespace exhibit cannot be listed',
    ],
    [
      'exec that is forbidden',
      ['web-0'],
      { ...WEB, exec: 'return 1', 'can-i': { stdout: 'no\n', code: 1 } },
      'you may not use kubectl exec in namespace exhibit',
    ],
    [
      'an agent without exhibit',
      ['web-0'],
      { ...WEB, exec: 'return 126' },
      'there is no exhibit in the container agent of exhibit/exhibit-a',
    ],
  ])('%s is said', async (_, args, answers, words) => {
    const ran = await kubectlExhibit(['capture', ...args], answers);
    expect(ran.code).not.toBe(0);
    expect(ran.stderr).toContain(words);
    expect(ran.stdout).toBe('');
  });

  test.each([
    ['an option that nobody knows', ['capture', 'web-0', '--colour', 'x']],
    ['an option without its value', ['capture', 'web-0', '--case']],
    ['two targets', ['capture', 'web-0', 'web-1']],
    ['no target', ['capture']],
    ['a target and labels', ['capture', 'web-0', '-l', 'a=b']],
    ['a pod and a node', ['containers', 'web-0', '--node', 'n1']],
    ['two namespaces', ['capture', 'prod/web-0', '-n', 'shop']],
    ['two containers', ['capture', 'prod/web-0/app', '-c', 'side']],
    ['a command that nobody knows', ['freeze', 'web-0']],
    ['no capture to show', ['show']],
    ['all of what is no capture', ['containers', '--all', '--node', 'n1']],
    ['a name that is none', ['capture', 'pod/We b']],
    ['a namespace that is an option', ['capture', 'web-0', '-n', '--kubeconfig=/x']],
    ['a node that is a selector', ['captures', '--node', 'n1,metadata.name=x']],
    ['an agent namespace that is none', ['capture', 'web-0', '--agent-namespace', '../x']],
  ])('%s is wrong usage, and kubectl is not asked', async (_, args) => {
    const ran = await kubectlExhibit(args, WEB);
    expect(ran).toMatchObject({ code: 2, calls: [], stdout: '' });
    expect(ran.stderr).toMatch(/^kubectl-exhibit: .*\nkubectl-exhibit: see: kubectl exhibit help\n$/);
  });

  test('no kubectl is said', async () => {
    const { code, stderr } = await kubectlExhibit(['capture', 'web-0'], WEB, {
      shell: ['/bin/sh'],
      env: { PATH: '/nonexistent' },
    });
    expect({ code, stderr }).toEqual({ code: 1, stderr: 'kubectl-exhibit: kubectl is not on the PATH\n' });
  });
});

describe('a cluster that is hostile', () => {
  test.each(
    NASTY.flatMap((word) => [
      `${word}/web-0/n1/Running`,
      `prod/${word}/n1/Running`,
      `prod/web-0/${word}/Running`,
      `prod/web-0/n1/${word}`,
      word,
    ]),
  )('with %j for a pod gets nothing run and nothing shown', async (pod) => {
    const ran = await kubectlExhibit(['capture', 'web-0'], { ...WEB, pod });
    expect(ran).toMatchObject({ code: 1, stdout: '' });
    expect(ran.stderr).toMatch(
      /^kubectl-exhibit: the cluster answered something that is no [a-z ]+: is this a Kubernetes API\?\n$/,
    );
    expect(ran.calls).toHaveLength(1);
  });

  test.each(NASTY)('with %j for an agent gets no exec', async (word) => {
    for (const agents of [`${word}/Running/True\n`, `exhibit-a/${word}/True\n`]) {
      const ran = await kubectlExhibit(['capture', 'web-0'], { ...WEB, agents });
      expect(ran.code).toBe(1);
      expect(execs(ran.calls)).toEqual([]);
      expect(ran.stderr).not.toMatch(/[^\P{Cc}\n]/u);
    }
  });

  test.each(NASTY.filter((word) => word !== '../..'))('with %j for a selector gets no list', async (word) => {
    const ran = await kubectlExhibit(['capture', 'deploy/web'], { ...THREE, workload: `prod/app=${word},` });
    if (word === '-x') expect(ran.calls[1]).toContain('--selector=app=-x');
    else expect(ran).toMatchObject({ code: 1, calls: { length: 1 } });
  });
});

describe('a terminal', () => {
  const exec = `case " $* " in *' -it '*) echo with-terminal ;; *) echo without ;; esac`;

  test('is asked for where both ends are one', async (context) => {
    if (!existsSync('/usr/bin/script')) context.skip('needs script (Debian: bsdutils)');
    expect((await kubectlExhibit(['captures', 'web-0'], { ...WEB, exec }, { onTerminal: true })).stdout).toContain(
      'with-terminal',
    );
    expect(
      (await kubectlExhibit(['captures', 'web-0', '--json'], { ...WEB, exec }, { onTerminal: true })).stdout,
    ).toContain('without');
  });

  test('is not asked for in a pipe', async () => {
    expect((await kubectlExhibit(['captures', 'web-0'], { ...WEB, exec })).stdout).toBe('without\n');
  });

  test.each([['pod/web-0'], ['-l', 'app=web', '--all']])(
    'that sends Ctrl-C while %s is captured ends with 130, and how to look again',
    async (...args) => {
      const ran = await kubectlExhibit(
        ['capture', ...args],
        { ...THREE, exec: 'echo begun >&2; exec sleep 30' },
        { when: { text: /begun/, act: (child) => process.kill(-(child.pid ?? 0), 'SIGINT') } },
      );
      expect(ran.code).toBe(130);
      expect(ran.stderr).toContain('goes on: from here `kubectl exhibit captures --node n1` lists it');
      expect(execs(ran.calls)).toHaveLength(1);
    },
  );
});
