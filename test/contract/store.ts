import { describe } from 'vitest';
import type { Store } from '../../controller/store/store.ts';
import { auditContract } from './store-audit.ts';
import { budgetContract } from './store-budgets.ts';
import { busContract } from './store-bus.ts';
import { captureContract } from './store-captures.ts';
import { caseContract } from './store-cases.ts';
import { hostileContract } from './store-hostile.ts';
import { listContract } from './store-lists.ts';
import { nodeContract } from './store-nodes.ts';

/** One empty store, by two of the replicas that share it; one twice where there is only one. */
export interface StoreUnderTest extends AsyncDisposable {
  readonly replicas: readonly [Store, Store];
  /** Past the store, as whoever has the database can. */
  raw(statement: string): Promise<readonly Record<string, unknown>[]>;
  /** Closes both, and opens them on what is there. */
  reopen(): Promise<readonly [Store, Store]>;
}

export type StartStore = () => Promise<StoreUnderTest>;

/** What every store promises (controller/store/store.ts), on a real one. `obstacle`: why it cannot be had here. */
export function storeContract(name: string, start: StartStore, obstacle?: string): void {
  describe.skipIf(obstacle !== undefined)(obstacle === undefined ? name : `${name}: ${obstacle}`, () => {
    captureContract(start);
    listContract(start);
    nodeContract(start);
    caseContract(start);
    auditContract(start);
    budgetContract(start);
    busContract(start);
    hostileContract(start);
  });
}
