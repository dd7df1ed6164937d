import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { ExhibitError } from '../../../evidence/error.ts';
import { caller, container, context, grant, type LabDomain, labDomain, podRequest } from './lab-domain.ts';

/** PostgreSQL may go between the commit of a command and the message that wakes its node. */

let lab: LabDomain;
beforeEach(async () => {
  lab = await labDomain();
  lab.agents.set({ cluster: 'east', node: 'n1' }, [container('prod', 'web-0', 'app')]);
});
afterEach(() => lab[Symbol.asyncDispose]());

const rob = caller('rob', grant('responder', ['*'], ['prod']));

describe('a message about what is stored', () => {
  test('that the bus does not take fails no call, and is sent again', async () => {
    const { bus } = lab.domain.store;
    const heard: string[] = [];
    using _heard = bus.subscribe('commands', (node) => void heard.push(node));
    const away = new ExhibitError('store-failed', 'PostgreSQL cannot be reached; nothing was stored');
    using publish = vi.spyOn(bus, 'publish').mockRejectedValueOnce(away);
    const { captures } = await lab.api.CreateCapture(podRequest('prod', 'web-0'), context(rob));
    expect(captures).toMatchObject([{ state: 'queued', node: 'n1' }]);
    expect(heard).toEqual([]);
    await expect.poll(() => heard).toEqual(['east/n1']);
    expect(publish).toHaveBeenCalledTimes(2);

    const told: string[] = [];
    using _told = bus.subscribe('captures', (message) => void told.push(message));
    publish.mockRejectedValueOnce(away);
    const captureId = captures?.[0]?.captureId ?? '';
    expect(await lab.api.CancelCapture({ captureId }, context(rob))).toMatchObject({ state: 'cancelled' });
    await expect.poll(() => told).toEqual([JSON.stringify({ captureId })]);
  });
});
