// Original file: proto/exhibit/controller/v1/controller.proto


export interface WatchCaptureRequest {
  'captureId'?: (string);
}

export interface WatchCaptureRequest__Output {
  'captureId': (string);
}
