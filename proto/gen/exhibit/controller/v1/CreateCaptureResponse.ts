// Original file: proto/exhibit/controller/v1/controller.proto

import type { ControlledCapture as _exhibit_controller_v1_ControlledCapture, ControlledCapture__Output as _exhibit_controller_v1_ControlledCapture__Output } from '../../../exhibit/controller/v1/ControlledCapture.ts';
import type { Unreached as _exhibit_controller_v1_Unreached, Unreached__Output as _exhibit_controller_v1_Unreached__Output } from '../../../exhibit/controller/v1/Unreached.ts';

export interface CreateCaptureResponse {
  'requestId'?: (string);
  'captures'?: (_exhibit_controller_v1_ControlledCapture)[];
  'unreached'?: (_exhibit_controller_v1_Unreached)[];
}

export interface CreateCaptureResponse__Output {
  'requestId': (string);
  'captures': (_exhibit_controller_v1_ControlledCapture__Output)[];
  'unreached': (_exhibit_controller_v1_Unreached__Output)[];
}
