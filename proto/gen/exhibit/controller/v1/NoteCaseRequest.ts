// Original file: proto/exhibit/controller/v1/controller.proto


export interface NoteCaseRequest {
  'caseId'?: (string);
  'text'?: (string);
}

export interface NoteCaseRequest__Output {
  'caseId': (string);
  'text': (string);
}
