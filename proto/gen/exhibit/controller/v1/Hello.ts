// Original file: proto/exhibit/controller/v1/link.proto

import type { Long } from '@grpc/proto-loader';

export interface Hello {
  'protocol'?: (number);
  'cluster'?: (string);
  'node'?: (string);
  'agentVersion'?: (string);
  'bootId'?: (string);
  'runtimeName'?: (string);
  'runtimeVersion'?: (string);
  'artifacts'?: (string)[];
  'sinks'?: (string)[];
  'clockMs'?: (number | string | Long);
  'pod'?: (string);
}

export interface Hello__Output {
  'protocol': (number);
  'cluster': (string);
  'node': (string);
  'agentVersion': (string);
  'bootId': (string);
  'runtimeName': (string);
  'runtimeVersion': (string);
  'artifacts': (string)[];
  'sinks': (string)[];
  'clockMs': (string);
  'pod': (string);
}
