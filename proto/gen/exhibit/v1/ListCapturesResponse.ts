// Original file: proto/exhibit/v1/agent.proto

import type { Capture as _exhibit_v1_Capture, Capture__Output as _exhibit_v1_Capture__Output } from '../../exhibit/v1/Capture.ts';

export interface ListCapturesResponse {
  'captures'?: (_exhibit_v1_Capture)[];
}

export interface ListCapturesResponse__Output {
  'captures': (_exhibit_v1_Capture__Output)[];
}
