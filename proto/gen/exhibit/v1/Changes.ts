// Original file: proto/exhibit/v1/agent.proto

import type { KindChanges as _exhibit_v1_KindChanges, KindChanges__Output as _exhibit_v1_KindChanges__Output } from '../../exhibit/v1/KindChanges.ts';

export interface Changes {
  'baseline'?: (string);
  'kinds'?: (_exhibit_v1_KindChanges)[];
}

export interface Changes__Output {
  'baseline': (string);
  'kinds': (_exhibit_v1_KindChanges__Output)[];
}
