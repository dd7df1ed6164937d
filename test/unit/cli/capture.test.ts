import { describe, expect, test, vi } from 'vitest';
import {
  CAPTURE_ID,
  EVENT_TIME_MS,
  Refusal,
  type Script,
  someCapture,
  someStage,
  startFakeAgent,
  wholeCapture,
} from './fake-agent.ts';
import { exhibit, onTerminal, shell, TEST_TIMEOUT_MS } from './run.ts';

vi.setConfig({ testTimeout: TEST_TIMEOUT_MS });

const WELL: Script = { events: () => wholeCapture(someCapture()) };
const capture = (socket: string, ...more: string[]) => ['capture', 'prod/web-0', '--socket', socket, ...more];

describe('capture --wait', () => {
  test('writes a plain line a stage start and end to stderr, and the result to stdout', async () => {
    await using agent = await startFakeAgent(WELL);
    const ran = await exhibit(capture(agent.socket));
    expect(ran.code).toBe(0);
    expect(ran.stderr).toBe(
      [
        `2026-03-01T12:00:00.000Z capturing prod/web-0/app into file:///evidence/c1/n1/${CAPTURE_ID}`,
        '2026-03-01T12:00:00.000Z processes: started',
        '2026-03-01T12:00:02.000Z processes: captured, 10 KiB stored in 1.2 s',
        '2026-03-01T12:00:00.000Z memory: started',
        '2026-03-01T12:00:02.000Z memory: captured, 4.99 MiB stored in 1.2 s, paused 42 ms',
        '',
      ].join('\n'),
    );
    expect(ran.stdout.toString()).toBe(
      [
        `capture  ${CAPTURE_ID}`,
        'outcome  complete',
        'target   prod/web-0/app',
        'stored   5 MiB',
        'paused   42 ms',
        `bundle   file:///evidence/c1/n1/${CAPTURE_ID}`,
        `verify   exhibit verify file:///evidence/c1/n1/${CAPTURE_ID}`,
        '',
      ].join('\n'),
    );
  });

  test('sends everything that was asked for', async () => {
    await using agent = await startFakeAgent(WELL);
    await exhibit(
      capture(
        agent.socket,
        ...['--id', CAPTURE_ID, '--case', 'IR-7', '--reason', 'alert: "x"', '--container', 'app'],
        ...['--artifacts', 'memory,logs', '--consistency', 'live', '--scope', 'pod'],
        ...['--sink', 'west,here', '--sink', 'east', '--exhibit', 'KD/7', '--acquirer', 'DC Müller'],
      ),
    );
    expect(agent.requests).toMatchObject([
      {
        call: 'Capture',
        message: {
          captureId: CAPTURE_ID,
          selector: { by: 'pod', pod: { namespace: 'prod', pod: 'web-0', container: 'app' } },
          artifacts: ['memory', 'logs'],
          caseId: 'IR-7',
          reason: 'alert: "x"',
          consistency: 'live',
          scope: 'pod',
          sinks: ['west', 'here', 'east'],
          exhibitNumber: 'KD/7',
          acquirer: 'DC Müller',
        },
      },
    ]);
  });

  test('makes an id of its own, so that the capture can be asked about whatever happens', async () => {
    await using agent = await startFakeAgent(WELL);
    await exhibit(capture(agent.socket));
    expect(agent.requests[0]?.message).toMatchObject({
      captureId: expect.stringMatching(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/),
    });
  });

  test('of a partial capture exits 0 and says plainly what is missing', async () => {
    const stages = [
      someStage({ stage: 'processes' }),
      someStage({ stage: 'memory', status: 'partial', gapCount: 3 }),
      someStage({ stage: 'checkpoint', status: 'failed', reason: 'criu: not found', storedBytes: 0 }),
    ];
    await using agent = await startFakeAgent({
      events: () => wholeCapture(someCapture({ state: 'partial', gapCount: 3, stages })),
    });
    const ran = await exhibit(capture(agent.socket));
    expect(ran.code).toBe(0);
    expect(ran.stdout.toString()).toContain('outcome  partial: 3 gaps, listed in manifest.json\n');
    expect(ran.stdout.toString()).toMatch(
      /\nNot everything was captured:\n {2}memory: partial, .*, 3 gaps\n {2}checkpoint: failed: criu: not found\n$/,
    );
  });

  test.each(['failed', 'cancelled', 'interrupted'])('of a %s capture exits 1 and says why', async (state) => {
    await using agent = await startFakeAgent({
      events: () => wholeCapture(someCapture({ state, error: 'The sink is full' })),
    });
    const ran = await exhibit(capture(agent.socket));
    expect(ran.code).toBe(1);
    expect(ran.stderr).toMatch(/\nexhibit: The capture .*The sink is full.*\n$/);
    expect(ran.stdout.toString()).toContain(`outcome  ${state}\n`);
  });

  test('shows candidates when the target is ambiguous', async () => {
    const refuse = () => {
      throw new Refusal('target-ambiguous', 'prod/web-0 has two containers: name app or proxy');
    };
    await using agent = await startFakeAgent({ events: refuse });
    const ran = await exhibit(capture(agent.socket));
    expect(ran).toMatchObject({ code: 1, stderr: 'exhibit: prod/web-0 has two containers: name app or proxy\n' });
  });

  test('knows two scopes', async () => {
    const ran = await exhibit(['capture', 'prod/web-0', '--scope', 'node', '--socket', '/nonexistent/s']);
    expect(ran.code).toBe(2);
    expect(ran.stderr).toContain('container, pod');
  });

  test('refuses a target that is none before it asks the agent', async () => {
    const ran = await exhibit(['capture', 'prod//', '--socket', '/nonexistent/s']);
    expect(ran.code).toBe(2);
    expect(ran.stderr).toContain('NAMESPACE/POD');
  });
});

describe('capture --json', () => {
  test('is a line an event, the last with the whole capture', async () => {
    await using agent = await startFakeAgent(WELL);
    const ran = await exhibit(capture(agent.socket, '--json', '--id', CAPTURE_ID));
    const lines = ran.stdout.toString().trimEnd().split('\n');
    const events = lines.map((line) => JSON.parse(line));
    expect(ran).toMatchObject({ code: 0, stderr: '' });
    expect(events.map((event) => event.event)).toEqual([
      'accepted',
      ...['stage-started', 'stage-progress', 'stage-ended'],
      ...['stage-started', 'stage-progress', 'stage-ended'],
      'ended',
    ]);
    expect(events[0]).toEqual({
      captureId: CAPTURE_ID,
      at: '2026-03-01T12:00:00.000Z',
      event: 'accepted',
      target: 'prod/web-0/app',
      sinkUrl: `file:///evidence/c1/n1/${CAPTURE_ID}`,
      stages: ['processes', 'memory'],
      created: true,
    });
    expect(events[2]).toMatchObject({ stage: 'processes', doneBytes: 1048576, totalBytes: 4194304 });
    expect(events.at(-1)).toMatchObject({
      capture: { captureId: CAPTURE_ID, state: 'complete', storedBytes: 5242880 },
    });
  });

  test('of a failed capture has the result on stdout and the error on stderr', async () => {
    await using agent = await startFakeAgent({
      events: () => wholeCapture(someCapture({ state: 'failed', error: 'no' })),
    });
    const ran = await exhibit(capture(agent.socket, '--json'));
    expect(ran.code).toBe(1);
    expect(JSON.parse(ran.stdout.toString().trimEnd().split('\n').at(-1) ?? '')).toMatchObject({
      event: 'ended',
      capture: { state: 'failed' },
    });
    expect(JSON.parse(ran.stderr)).toEqual({ error: { code: 'capture-failed', message: 'The capture failed: no' } });
  });
});

/** A capture that is accepted and then takes for ever. */
async function* endless() {
  yield { accepted: { target: 'prod/web-0/app', sinkUrl: 's3://e', stages: ['memory'], created: true } };
  yield { stageStarted: { stage: 'memory' } };
  await new Promise(() => undefined);
}

describe('capture --detach', () => {
  test('prints the id after acceptance and hangs up, which leaves the capture alone', async () => {
    await using agent = await startFakeAgent({ events: endless });
    const ran = await exhibit(capture(agent.socket, '--detach', '--id', CAPTURE_ID));
    expect(ran).toMatchObject({ code: 0, stderr: '' });
    expect(ran.stdout.toString()).toBe(`${CAPTURE_ID}\n`);
    expect(agent.requests.map((request) => request.call)).toEqual(['Capture']);
  });

  test('with --json prints the event', async () => {
    await using agent = await startFakeAgent({ events: endless });
    const ran = await exhibit(capture(agent.socket, '--detach', '--json', '--id', CAPTURE_ID));
    expect(JSON.parse(ran.stdout.toString())).toMatchObject({ event: 'accepted', captureId: CAPTURE_ID });
  });
});

describe('somebody who leaves', () => {
  test.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('with %s is told that the capture goes on, and how to see, watch and end it', async (signal, code) => {
    await using agent = await startFakeAgent({ events: endless });
    const ran = await exhibit(capture(agent.socket, '--id', CAPTURE_ID), {
      when: { text: /memory: started/, act: (child) => void child.kill(signal) },
    });
    expect(ran.code).toBe(code);
    expect(ran.stderr).toContain(`The capture ${CAPTURE_ID} goes on without you`);
    expect(ran.stderr).toContain(`exhibit show ${CAPTURE_ID} --socket ${agent.socket}`);
    expect(ran.stderr).toContain(`--id ${CAPTURE_ID}`);
    expect(ran.stderr).toContain(`exhibit cancel ${CAPTURE_ID}`);
    expect(agent.requests.map((request) => request.call)).toEqual(['Capture']);
  });

  test('is told in JSON with --json', async () => {
    await using agent = await startFakeAgent({ events: endless });
    const ran = await exhibit(capture(agent.socket, '--json'), {
      when: { text: /stage-started/, act: (child) => void child.kill('SIGINT') },
    });
    expect(JSON.parse(ran.stderr)).toMatchObject({ error: { code: 'interrupted' } });
  });
});

describe('on a terminal', () => {
  test('stages that ended stay, and the one that runs shows bytes and rate', async () => {
    await using agent = await startFakeAgent({
      async *events() {
        yield { accepted: { target: 't', sinkUrl: 's3://e', stages: ['memory'], created: false } };
        yield { stageStarted: { stage: 'memory' } };
        yield {
          atMs: EVENT_TIME_MS + 1000,
          stageProgress: { stage: 'memory', doneBytes: 1048576, totalBytes: 4194304 },
        };
        await new Promise((resolve) => setTimeout(resolve, 400));
        yield { atMs: EVENT_TIME_MS + 2000, stageEnded: someStage({ stage: 'memory' }) };
        yield { ended: someCapture() };
      },
    });
    const ran = await onTerminal(capture(agent.socket));
    const text = ran.stdout.toString();
    expect(ran.code).toBe(0);
    expect(text).toContain('joined the capture of t into s3://e');
    expect(text).toContain('memory: 1 MiB of 4 MiB, 1 MiB/s');
    expect(text).toContain('memory: captured, 10 KiB stored in 1.2 s');
    expect(text).toContain(`capture  ${CAPTURE_ID}`);
    expect(text.lastIndexOf('\x1b[?25h')).toBeGreaterThan(text.lastIndexOf('\x1b[?25l'));
  });
});

describe('on a terminal without a width, as a bare kubectl exec -t gives', () => {
  test('progress is plain lines', async () => {
    await using agent = await startFakeAgent(WELL);
    const ran = await onTerminal(capture(agent.socket), 0);
    expect(ran.code).toBe(0);
    expect(ran.stdout.toString()).toContain('2026-03-01T12:00:00.000Z processes: started');
    expect(ran.stdout.includes('\x1b')).toBe(false);
  });
});

describe('in a pipe', () => {
  test('whose reader hangs up, the program waits for the end all the same, and says nothing of the pipe', async () => {
    await using agent = await startFakeAgent(WELL);
    const ran = await shell('$EXHIBIT capture prod/web-0 --json --socket "$S" | head -n 1; echo $PIPESTATUS', {
      env: { S: agent.socket },
    });
    expect(ran.stderr).toBe('');
    expect(ran.stdout.toString().trimEnd().split('\n')).toEqual([expect.stringContaining('"accepted"'), '0']);
  });
});
