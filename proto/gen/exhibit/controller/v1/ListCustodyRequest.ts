// Original file: proto/exhibit/controller/v1/controller.proto

import type { Long } from '@grpc/proto-loader';

export interface ListCustodyRequest {
  'captureId'?: (string);
  'caseId'?: (string);
  'afterSeq'?: (number | string | Long);
  'pageSize'?: (number);
}

export interface ListCustodyRequest__Output {
  'captureId': (string);
  'caseId': (string);
  'afterSeq': (string);
  'pageSize': (number);
}
