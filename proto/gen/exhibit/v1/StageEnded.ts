// Original file: proto/exhibit/v1/agent.proto

import type { Long } from '@grpc/proto-loader';

export interface StageEnded {
  'stage'?: (string);
  'status'?: (string);
  'reason'?: (string);
  'storedBytes'?: (number | string | Long);
  'wallMs'?: (number | string | Long);
  'pauseMs'?: (number | string);
  'gapCount'?: (number);
}

export interface StageEnded__Output {
  'stage': (string);
  'status': (string);
  'reason': (string);
  'storedBytes': (string);
  'wallMs': (string);
  'pauseMs': (number);
  'gapCount': (number);
}
