// Original file: proto/exhibit/controller/v1/controller.proto


export interface CloseCaseRequest {
  'caseId'?: (string);
  'text'?: (string);
}

export interface CloseCaseRequest__Output {
  'caseId': (string);
  'text': (string);
}
