// Original file: proto/exhibit/controller/v1/controller.proto

import type { CustodyEntry as _exhibit_controller_v1_CustodyEntry, CustodyEntry__Output as _exhibit_controller_v1_CustodyEntry__Output } from '../../../exhibit/controller/v1/CustodyEntry.ts';

export interface ListCustodyResponse {
  'entries'?: (_exhibit_controller_v1_CustodyEntry)[];
  'more'?: (boolean);
}

export interface ListCustodyResponse__Output {
  'entries': (_exhibit_controller_v1_CustodyEntry__Output)[];
  'more': (boolean);
}
