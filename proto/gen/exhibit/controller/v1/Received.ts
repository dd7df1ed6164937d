// Original file: proto/exhibit/controller/v1/link.proto


export interface Received {
  'captureId'?: (string);
}

export interface Received__Output {
  'captureId': (string);
}
