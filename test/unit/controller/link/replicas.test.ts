import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Answer } from '../../../../controller/link/link.ts';
import { openLookups } from '../../../../controller/link/lookups.ts';
import { type LabPostgres, postgresObstacle, startPostgres } from '../../../lab/postgres.ts';
import { controllerLab, heldCapture, quiet, until } from './lab.ts';

const obstacle = postgresObstacle();

describe.skipIf(obstacle !== undefined)(
  `replicas that share PostgreSQL${obstacle === undefined ? '' : `: ${obstacle}`}`,
  () => {
    let postgres: LabPostgres;
    beforeAll(async () => {
      postgres = await startPostgres();
    }, 60_000);
    afterAll(() => postgres[Symbol.asyncDispose]());

    test('reach an agent whose stream another one holds', async () => {
      await using lab = await controllerLab({ url: await postgres.newDatabase() });
      const second = await lab.replica();
      const node = await lab.node('n1', { via: second });
      await until(() => second.links.connected().length === 1);
      expect(lab.controller.links.connected()).toEqual([]);
      const { captureId } = await lab.ask('n1');
      expect(await lab.settled(captureId)).toMatchObject({ state: 'complete' });
      expect(node.begun).toEqual([captureId]);
    });

    test('ask the agents of all of them', async () => {
      await using lab = await controllerLab({ url: await postgres.newDatabase() });
      const second = await lab.replica();
      await lab.node('n1');
      await lab.node('n2', { via: second });
      await until(() => second.links.connected().length === 1 && lab.controller.links.connected().length === 1);
      const options = { log: quiet };
      using one = openLookups(lab.controller.links, lab.controller.store, options);
      using _other = openLookups(second.links, second.store, options);
      const answers: Answer[] = [];
      const signal = AbortSignal.timeout(10_000);
      for await (const answer of one.lookup({ clusters: ['*'], node: '' }, { namespace: '' }, signal))
        answers.push(answer);
      expect(answers.map(({ kind, node }) => `${node.node} ${kind}`).sort()).toEqual(['n1 found', 'n2 found']);
    });

    test('lose and double nothing when the one that holds the stream is killed during a capture', async () => {
      await using lab = await controllerLab({ url: await postgres.newDatabase() });
      const second = await lab.replica();
      let through = second;
      const held = heldCapture();
      const node = await lab.node('n1', {
        execute: held.execute,
        via: {
          get listener() {
            return through.listener;
          },
        } as typeof second,
      });
      const { captureId } = await lab.ask('n1');
      await lab.settled(captureId, ['running']);
      through = lab.controller;
      await second.kill();
      held.release();
      expect(await lab.settled(captureId)).toMatchObject({ state: 'complete' });
      expect(node.begun).toEqual([captureId]);
      expect(node.doubled).toEqual([]);
    });

    test('outlive a PostgreSQL that is restarted during a capture', { timeout: 60_000 }, async () => {
      await using lab = await controllerLab({ url: await postgres.newDatabase() });
      const held = heldCapture();
      const node = await lab.node('n1', { execute: held.execute });
      const { captureId } = await lab.ask('n1');
      await lab.settled(captureId, ['running']);
      await postgres.stop('immediate');
      held.release();
      await until(() => node.journal.get(captureId)?.state === 'complete');
      await postgres.start();
      expect(await lab.settled(captureId)).toMatchObject({ state: 'complete' });
      expect(node.begun).toEqual([captureId]);
    });
  },
);
