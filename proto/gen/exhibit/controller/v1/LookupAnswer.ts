// Original file: proto/exhibit/controller/v1/link.proto

import type { Container as _exhibit_v1_Container, Container__Output as _exhibit_v1_Container__Output } from '../../../exhibit/v1/Container.ts';

export interface LookupAnswer {
  'lookupId'?: (string);
  'containers'?: (_exhibit_v1_Container)[];
  'code'?: (string);
  'reason'?: (string);
}

export interface LookupAnswer__Output {
  'lookupId': (string);
  'containers': (_exhibit_v1_Container__Output)[];
  'code': (string);
  'reason': (string);
}
