// Original file: proto/exhibit/controller/v1/link.proto


export interface CancelCommand {
  'captureId'?: (string);
}

export interface CancelCommand__Output {
  'captureId': (string);
}
