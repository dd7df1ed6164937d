// Original file: proto/exhibit/controller/v1/controller.proto


export interface DenyCaptureRequest {
  'captureId'?: (string);
  'reason'?: (string);
}

export interface DenyCaptureRequest__Output {
  'captureId': (string);
  'reason': (string);
}
