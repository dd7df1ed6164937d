// Original file: proto/exhibit/v1/agent.proto


export interface CancelRequest {
  'captureId'?: (string);
}

export interface CancelRequest__Output {
  'captureId': (string);
}
