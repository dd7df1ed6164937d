// Original file: proto/exhibit/controller/v1/controller.proto

import type { Long } from '@grpc/proto-loader';

export interface CustodyEntry {
  'seq'?: (number | string | Long);
  'atMs'?: (number | string | Long);
  'actor'?: (string);
  'action'?: (string);
  'captureId'?: (string);
  'caseId'?: (string);
  'details'?: (string);
  'previous'?: (string);
  'digest'?: (string);
}

export interface CustodyEntry__Output {
  'seq': (string);
  'atMs': (string);
  'actor': (string);
  'action': (string);
  'captureId': (string);
  'caseId': (string);
  'details': (string);
  'previous': (string);
  'digest': (string);
}
