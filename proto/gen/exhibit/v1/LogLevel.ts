// Original file: proto/exhibit/v1/agent.proto

import type { Long } from '@grpc/proto-loader';

export interface LogLevel {
  'level'?: (string);
  'usual'?: (string);
  'untilMs'?: (number | string | Long);
}

export interface LogLevel__Output {
  'level': (string);
  'usual': (string);
  'untilMs': (string);
}
