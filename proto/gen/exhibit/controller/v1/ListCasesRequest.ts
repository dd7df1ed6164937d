// Original file: proto/exhibit/controller/v1/controller.proto


export interface ListCasesRequest {
  'state'?: (string);
  'pageSize'?: (number);
  'pageToken'?: (string);
}

export interface ListCasesRequest__Output {
  'state': (string);
  'pageSize': (number);
  'pageToken': (string);
}
