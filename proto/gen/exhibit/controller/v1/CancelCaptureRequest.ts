// Original file: proto/exhibit/controller/v1/controller.proto


export interface CancelCaptureRequest {
  'captureId'?: (string);
}

export interface CancelCaptureRequest__Output {
  'captureId': (string);
}
