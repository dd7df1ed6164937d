// Original file: proto/exhibit/v1/agent.proto


export interface GetCaptureRequest {
  'captureId'?: (string);
}

export interface GetCaptureRequest__Output {
  'captureId': (string);
}
