// Original file: proto/exhibit/controller/v1/link.proto

import type { Long } from '@grpc/proto-loader';

export interface Heartbeat {
  'atMs'?: (number | string | Long);
  'running'?: (number);
  'waiting'?: (number);
}

export interface Heartbeat__Output {
  'atMs': (string);
  'running': (number);
  'waiting': (number);
}
