// Original file: proto/exhibit/controller/v1/controller.proto


export interface GetCaptureRequest {
  'captureId'?: (string);
}

export interface GetCaptureRequest__Output {
  'captureId': (string);
}
