// Original file: proto/exhibit/controller/v1/link.proto

import type { CaptureRequest as _exhibit_v1_CaptureRequest, CaptureRequest__Output as _exhibit_v1_CaptureRequest__Output } from '../../../exhibit/v1/CaptureRequest.ts';
import type { Requester as _exhibit_controller_v1_Requester, Requester__Output as _exhibit_controller_v1_Requester__Output } from '../../../exhibit/controller/v1/Requester.ts';

export interface CaptureCommand {
  'request'?: (_exhibit_v1_CaptureRequest | null);
  'requester'?: (_exhibit_controller_v1_Requester | null);
  'resume'?: (boolean);
}

export interface CaptureCommand__Output {
  'request': (_exhibit_v1_CaptureRequest__Output | null);
  'requester': (_exhibit_controller_v1_Requester__Output | null);
  'resume': (boolean);
}
