// Original file: proto/exhibit/v1/agent.proto

import type { Container as _exhibit_v1_Container, Container__Output as _exhibit_v1_Container__Output } from '../../exhibit/v1/Container.ts';

export interface ListContainersResponse {
  'runtimeName'?: (string);
  'runtimeVersion'?: (string);
  'containers'?: (_exhibit_v1_Container)[];
}

export interface ListContainersResponse__Output {
  'runtimeName': (string);
  'runtimeVersion': (string);
  'containers': (_exhibit_v1_Container__Output)[];
}
