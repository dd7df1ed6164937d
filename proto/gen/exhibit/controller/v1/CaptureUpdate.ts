// Original file: proto/exhibit/controller/v1/controller.proto

import type { ControlledCapture as _exhibit_controller_v1_ControlledCapture, ControlledCapture__Output as _exhibit_controller_v1_ControlledCapture__Output } from '../../../exhibit/controller/v1/ControlledCapture.ts';
import type { CaptureEvent as _exhibit_v1_CaptureEvent, CaptureEvent__Output as _exhibit_v1_CaptureEvent__Output } from '../../../exhibit/v1/CaptureEvent.ts';
import type { Long } from '@grpc/proto-loader';

export interface CaptureUpdate {
  'capture'?: (_exhibit_controller_v1_ControlledCapture | null);
  'event'?: (_exhibit_v1_CaptureEvent | null);
  'bytesPerSecond'?: (number | string | Long);
  'remainingMs'?: (number | string | Long);
}

export interface CaptureUpdate__Output {
  'capture': (_exhibit_controller_v1_ControlledCapture__Output | null);
  'event': (_exhibit_v1_CaptureEvent__Output | null);
  'bytesPerSecond': (string);
  'remainingMs': (string);
}
