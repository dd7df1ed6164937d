// Original file: proto/exhibit/controller/v1/controller.proto

import type { CaseNote as _exhibit_controller_v1_CaseNote, CaseNote__Output as _exhibit_controller_v1_CaseNote__Output } from '../../../exhibit/controller/v1/CaseNote.ts';
import type { Long } from '@grpc/proto-loader';

export interface Case {
  'caseId'?: (string);
  'title'?: (string);
  'state'?: (string);
  'openedBy'?: (string);
  'openedAtMs'?: (number | string | Long);
  'closedBy'?: (string);
  'closedAtMs'?: (number | string | Long);
  'notes'?: (_exhibit_controller_v1_CaseNote)[];
  'captureCount'?: (number);
}

export interface Case__Output {
  'caseId': (string);
  'title': (string);
  'state': (string);
  'openedBy': (string);
  'openedAtMs': (string);
  'closedBy': (string);
  'closedAtMs': (string);
  'notes': (_exhibit_controller_v1_CaseNote__Output)[];
  'captureCount': (number);
}
