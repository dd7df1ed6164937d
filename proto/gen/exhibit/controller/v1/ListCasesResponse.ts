// Original file: proto/exhibit/controller/v1/controller.proto

import type { Case as _exhibit_controller_v1_Case, Case__Output as _exhibit_controller_v1_Case__Output } from '../../../exhibit/controller/v1/Case.ts';

export interface ListCasesResponse {
  'cases'?: (_exhibit_controller_v1_Case)[];
  'nextPageToken'?: (string);
}

export interface ListCasesResponse__Output {
  'cases': (_exhibit_controller_v1_Case__Output)[];
  'nextPageToken': (string);
}
