// Original file: proto/exhibit/controller/v1/controller.proto

import type { Long } from '@grpc/proto-loader';

export interface Node {
  'cluster'?: (string);
  'node'?: (string);
  'connected'?: (boolean);
  'connectedAtMs'?: (number | string | Long);
  'lastSeenMs'?: (number | string | Long);
  'agentVersion'?: (string);
  'runtimeName'?: (string);
  'runtimeVersion'?: (string);
  'artifacts'?: (string)[];
  'sinks'?: (string)[];
  'clockAheadMs'?: (number | string | Long);
  'running'?: (number);
  'waiting'?: (number);
  'pod'?: (string);
}

export interface Node__Output {
  'cluster': (string);
  'node': (string);
  'connected': (boolean);
  'connectedAtMs': (string);
  'lastSeenMs': (string);
  'agentVersion': (string);
  'runtimeName': (string);
  'runtimeVersion': (string);
  'artifacts': (string)[];
  'sinks': (string)[];
  'clockAheadMs': (string);
  'running': (number);
  'waiting': (number);
  'pod': (string);
}
