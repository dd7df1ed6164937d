// Original file: proto/exhibit/controller/v1/controller.proto

import type { Long } from '@grpc/proto-loader';

export interface Approval {
  'by'?: (string);
  'atMs'?: (number | string | Long);
}

export interface Approval__Output {
  'by': (string);
  'atMs': (string);
}
