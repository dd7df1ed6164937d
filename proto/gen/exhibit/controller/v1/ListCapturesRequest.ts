// Original file: proto/exhibit/controller/v1/controller.proto

import type { Long } from '@grpc/proto-loader';

export interface ListCapturesRequest {
  'states'?: (string)[];
  'cluster'?: (string);
  'node'?: (string);
  'namespace'?: (string);
  'caseId'?: (string);
  'requestedBy'?: (string);
  'requestId'?: (string);
  'sinceMs'?: (number | string | Long);
  'untilMs'?: (number | string | Long);
  'pageSize'?: (number);
  'pageToken'?: (string);
}

export interface ListCapturesRequest__Output {
  'states': (string)[];
  'cluster': (string);
  'node': (string);
  'namespace': (string);
  'caseId': (string);
  'requestedBy': (string);
  'requestId': (string);
  'sinceMs': (string);
  'untilMs': (string);
  'pageSize': (number);
  'pageToken': (string);
}
