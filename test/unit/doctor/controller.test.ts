import { describe, expect, test } from 'vitest';
import { type ControllerFacts, checkController } from '../../../agent/doctor/controller.ts';

const DAY_MS = 86_400_000;
const NOW_MS = Date.parse('2026-11-28T00:00:00Z');

const check = ({ trial, status }: Partial<ControllerFacts>) =>
  checkController('c:7443', {
    trial: { ownUntilMs: NOW_MS + 60 * DAY_MS, controllerUntilMs: NOW_MS + 60 * DAY_MS, ...trial },
    status,
    nowMs: NOW_MS,
  });

describe('the line of the controller', () => {
  test('says that it answers, since when there is a stream, and until when the certificates are good', () => {
    expect(check({ status: { upSinceMs: NOW_MS, why: undefined } })).toMatchObject({
      ...{ group: 'agent', name: 'controller', status: 'ok' },
      found:
        'c:7443 answers, stream since 2026-11-28T00:00:00.000Z; own certificate until 2027-01-27T00:00:00.000Z, ' +
        "the controller's until 2027-01-27T00:00:00.000Z",
    });
    expect(check({})).toMatchObject({ status: 'ok', found: expect.stringMatching(/^c:7443 answers; own/) });
  });

  test('says its release, and warns where the two are too far apart', () => {
    const up = { upSinceMs: NOW_MS, why: undefined, version: '0.2.0' };
    expect(check({ status: up })).toMatchObject({
      status: 'ok',
      found: expect.stringContaining('Z, release 0.2.0; own'),
    });
    const apart = 'the agent is 0.1.0 and the controller 0.3.0, more than one minor version apart: update the agent';
    expect(check({ status: { ...up, version: '0.3.0', apart } })).toMatchObject({
      status: 'warning',
      found: expect.stringContaining(apart),
      mend: 'see docs/compatibility.md',
    });
  });

  test('is a failure where it cannot be dialled, and says that other triggers work', () => {
    const down = check({ trial: { why: 'The controller cannot be reached: connect ECONNREFUSED' } });
    expect(down).toMatchObject({ status: 'failure', meaning: expect.stringContaining('other triggers work') });
    expect(down.found).toContain('ECONNREFUSED; own certificate until 2027');
  });

  test('warns where it answers and there is no stream', () => {
    expect(check({ status: { upSinceMs: undefined, why: 'refused: another protocol' } })).toMatchObject({
      status: 'warning',
      found: expect.stringContaining('no stream to it (the last one: refused: another protocol)'),
    });
  });

  test.each([
    ['the agent', { ownUntilMs: NOW_MS + 7 * DAY_MS - 1 }, "the agent's certificate (controller.certFile)"],
    ['the controller', { controllerUntilMs: NOW_MS + DAY_MS }, "the controller's certificate"],
  ])('warns in the last 7 days of the certificate of %s, and not before', (_whose, trial, what) => {
    expect(check({ trial })).toMatchObject({ status: 'warning', mend: `renew ${what}` });
    expect(check({ trial: { ownUntilMs: NOW_MS + 7 * DAY_MS } }).status).toBe('ok');
  });
});
