// Original file: proto/exhibit/v1/agent.proto

import type { Long } from '@grpc/proto-loader';

export interface StageProgress {
  'stage'?: (string);
  'doneBytes'?: (number | string | Long);
  'totalBytes'?: (number | string | Long);
}

export interface StageProgress__Output {
  'stage': (string);
  'doneBytes': (string);
  'totalBytes': (string);
}
