// Original file: proto/exhibit/controller/v1/controller.proto


export interface OpenCaseRequest {
  'caseId'?: (string);
  'title'?: (string);
}

export interface OpenCaseRequest__Output {
  'caseId': (string);
  'title': (string);
}
