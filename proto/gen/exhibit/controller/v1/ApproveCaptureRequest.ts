// Original file: proto/exhibit/controller/v1/controller.proto


export interface ApproveCaptureRequest {
  'captureId'?: (string);
}

export interface ApproveCaptureRequest__Output {
  'captureId': (string);
}
