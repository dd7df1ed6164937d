import { Writable } from 'node:stream';
import { pino } from 'pino';
import { describe, expect, test } from 'vitest';
import { ExhibitError } from '../../evidence/error.ts';
import {
  admin,
  caller,
  container,
  context,
  createRequest,
  failure,
  grant,
  type LabDomain,
  labDomain,
  nodeRow,
  podRequest,
} from '../unit/controller/lab-domain.ts';

/** Words that try to be something else, in every field that a caller or an agent can fill. */

const WORDS = [
  "'; DROP TABLE captures; --",
  "' OR '1'='1",
  '" UNION SELECT * FROM audit --',
  '\\x27; DELETE FROM audit; --',
  'a\n{"level":30,"msg":"capture approved"}',
  'a\r\n\r\nHTTP/1.1 200 OK',
  'a\u2028b\u2029c',
  '\u202egnp.exe',
  '\0',
  '\x1b]0;owned\x07',
  ['$', '{jndi:ldap://evil/a}'].join(''),
  '%s%n%d',
  '../../etc/passwd',
  '__proto__',
  'constructor',
  '*',
  '\ud800',
  '🦀'.repeat(2_000),
  'x'.repeat(100_000),
];

async function withLab(run: (lab: LabDomain, lines: () => string[]) => Promise<void>): Promise<void> {
  const chunks: string[] = [];
  const sink = new Writable({
    write(chunk: Buffer, _encoding, done) {
      chunks.push(chunk.toString());
      done();
    },
  });
  await using lab = await labDomain({ log: pino({ level: 'trace' }, sink) });
  lab.agents.set({ cluster: 'east', node: 'n1' }, [container('prod', 'web-0', 'app')]);
  await lab.domain.store.putNode(nodeRow('east', 'n1'));
  await run(lab, () =>
    chunks
      .join('')
      .split('\n')
      .filter((line) => line !== ''),
  );
}

/** An answer or an error of ours, and never one that says nothing or too much. */
async function settled(work: Promise<unknown>): Promise<void> {
  try {
    await work;
  } catch (error) {
    expect(error).toBeInstanceOf(ExhibitError);
    const { code, message } = error as ExhibitError;
    expect(code).not.toBe('internal');
    expect(code).not.toBe('store-failed');
    expect(message.length).toBeLessThan(1_000);
    expect(message).not.toMatch(/\.ts:\d+|SQLITE|syntax error/);
  }
}

async function fillEveryField(lab: LabDomain, word: string): Promise<void> {
  const { api } = lab;
  const as = context(admin);
  const fields = [
    'requestId',
    'node',
    'namespace',
    'consistency',
    'scope',
    'caseId',
    'reason',
    'exhibitNumber',
    'acquirer',
  ];
  for (const field of fields) await settled(api.CreateCapture(podRequest('prod', 'web-0', { [field]: word }), as));
  for (const field of ['clusters', 'artifacts', 'sinks'])
    await settled(api.CreateCapture(podRequest('prod', 'web-0', { [field]: [word] }), as));
  const selectors = [
    { pod: { namespace: word, pod: 'web-0', container: '' } },
    { pod: { namespace: 'prod', pod: word, container: word } },
    { containerId: word },
    { containerName: word },
    { labels: { labels: { [word]: word }, container: word } },
    { cgroup: word },
    { unit: word },
  ];
  for (const selector of selectors) await settled(api.CreateCapture(createRequest({ selector, node: 'n1' }), as));
  const list = { states: [word], sinceMs: word, untilMs: word, pageSize: 0, pageToken: word, requestedBy: word };
  await settled(
    api.ListCaptures({ ...list, cluster: word, node: word, namespace: word, caseId: word, requestId: word }, as),
  );
  await settled(
    api.ListCaptures(
      {
        ...list,
        states: [],
        pageToken: '',
        sinceMs: '0',
        untilMs: '0',
        cluster: word,
        node: word,
        namespace: word,
        caseId: '',
        requestId: word,
      },
      as,
    ),
  );
  await settled(api.GetCapture({ captureId: word }, as));
  await settled(api.CancelCapture({ captureId: word }, as));
  await settled(api.ApproveCapture({ captureId: word }, as));
  await settled(api.DenyCapture({ captureId: word, reason: word }, as));
  await settled(api.ListNodes({ cluster: word, connectedOnly: false, pageSize: 0, pageToken: word }, as));
  await settled(api.ListContainers({ clusters: [word], node: word, namespace: word, labels: {}, limit: 0 }, as));
  await settled(api.OpenCase({ caseId: word, title: word }, as));
  await settled(api.OpenCase({ caseId: 'INC-1', title: word }, as));
  await settled(api.NoteCase({ caseId: 'INC-1', text: word }, as));
  await settled(api.CloseCase({ caseId: word, text: word }, as));
  await settled(api.ListCases({ state: word, pageSize: 0, pageToken: word }, as));
  await settled(api.ListCustody({ captureId: word, caseId: word, afterSeq: '0', pageSize: 0 }, as));
}

describe('a word in any field', () => {
  test.each(
    WORDS.map((word) => [word.length > 60 ? `${word.slice(0, 20)}… of ${word.length}` : JSON.stringify(word), word]),
  )(
    '%s is a word, or refused as one',
    async (_name, word) => {
      await withLab(async (lab, lines) => {
        await fillEveryField(lab, word);
        const { rows } = await lab.domain.store.captures({}, { limit: 1_000 });
        expect(rows.every(({ state }) => state === 'queued')).toBe(true);
        expect(await lab.api.WhoAmI({}, context(admin))).toMatchObject({ name: 'ada' });
        const entries = await lab.domain.store.audit({}, { afterSeq: 0, limit: 1_000 });
        for (const [index, entry] of entries.entries())
          expect(entry.previous).toBe(entries[index - 1]?.digest ?? '0'.repeat(64));
        for (const line of lines()) expect(typeof (JSON.parse(line) as { msg: unknown }).msg).toBe('string');
      });
    },
    60_000,
  );

  test('of a caller who is not let do it is one line of the log, and one entry', async () => {
    await withLab(async (lab, lines) => {
      for (const word of WORDS) {
        const eve = caller(`eve ${word}`, grant('viewer'));
        await failure(lab.api.OpenCase({ caseId: 'INC-1', title: '' }, context(eve)));
      }
      await lab.domain.denials[Symbol.asyncDispose]();
      expect(lines()).toHaveLength(WORDS.length);
      for (const line of lines()) expect(JSON.parse(line)).toMatchObject({ msg: 'access denied' });
      expect(await lab.domain.store.audit({}, { afterSeq: 0, limit: 1_000 })).toHaveLength(WORDS.length);
    });
  }, 30_000);

  test('of an agent that lists containers is shown as it is, or not taken for a target', async () => {
    await withLab(async (lab) => {
      lab.agents.set(
        { cluster: 'east', node: 'n1' },
        WORDS.slice(0, 17).map((word, index) =>
          container('prod', word, word, { id: String(index).padStart(64, '0'), labels: { app: 'web', [word]: word } }),
        ),
      );
      const selector = { labels: { labels: { app: 'web' }, container: '' } };
      const { captures = [] } = await lab.api.CreateCapture(createRequest({ selector }), context(admin));
      expect(captures).toHaveLength(17);
      // What no selector can hold is named by its id.
      for (const { selector: text } of captures)
        expect(text).toMatch(/^(0{62}\d\d|prod\/(__proto__|constructor)\/\w+)$/);
    });
  });
});
