// Original file: proto/exhibit/controller/v1/link.proto


export interface Refusal {
  'captureId'?: (string);
  'code'?: (string);
  'reason'?: (string);
}

export interface Refusal__Output {
  'captureId': (string);
  'code': (string);
  'reason': (string);
}
