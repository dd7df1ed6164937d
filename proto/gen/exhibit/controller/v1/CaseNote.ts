// Original file: proto/exhibit/controller/v1/controller.proto

import type { Long } from '@grpc/proto-loader';

export interface CaseNote {
  'by'?: (string);
  'atMs'?: (number | string | Long);
  'text'?: (string);
}

export interface CaseNote__Output {
  'by': (string);
  'atMs': (string);
  'text': (string);
}
