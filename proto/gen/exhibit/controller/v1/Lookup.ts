// Original file: proto/exhibit/controller/v1/link.proto

import type { Selector as _exhibit_v1_Selector, Selector__Output as _exhibit_v1_Selector__Output } from '../../../exhibit/v1/Selector.ts';

export interface Lookup {
  'lookupId'?: (string);
  'selector'?: (_exhibit_v1_Selector | null);
  'namespace'?: (string);
}

export interface Lookup__Output {
  'lookupId': (string);
  'selector': (_exhibit_v1_Selector__Output | null);
  'namespace': (string);
}
