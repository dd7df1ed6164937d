// Original file: proto/exhibit/controller/v1/controller.proto

import type { ControlledCapture as _exhibit_controller_v1_ControlledCapture, ControlledCapture__Output as _exhibit_controller_v1_ControlledCapture__Output } from '../../../exhibit/controller/v1/ControlledCapture.ts';

export interface ListCapturesResponse {
  'captures'?: (_exhibit_controller_v1_ControlledCapture)[];
  'nextPageToken'?: (string);
}

export interface ListCapturesResponse__Output {
  'captures': (_exhibit_controller_v1_ControlledCapture__Output)[];
  'nextPageToken': (string);
}
