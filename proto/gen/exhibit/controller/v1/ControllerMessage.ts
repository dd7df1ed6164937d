// Original file: proto/exhibit/controller/v1/link.proto

import type { Welcome as _exhibit_controller_v1_Welcome, Welcome__Output as _exhibit_controller_v1_Welcome__Output } from '../../../exhibit/controller/v1/Welcome.ts';
import type { CaptureCommand as _exhibit_controller_v1_CaptureCommand, CaptureCommand__Output as _exhibit_controller_v1_CaptureCommand__Output } from '../../../exhibit/controller/v1/CaptureCommand.ts';
import type { CancelCommand as _exhibit_controller_v1_CancelCommand, CancelCommand__Output as _exhibit_controller_v1_CancelCommand__Output } from '../../../exhibit/controller/v1/CancelCommand.ts';
import type { Lookup as _exhibit_controller_v1_Lookup, Lookup__Output as _exhibit_controller_v1_Lookup__Output } from '../../../exhibit/controller/v1/Lookup.ts';
import type { Heartbeat as _exhibit_controller_v1_Heartbeat, Heartbeat__Output as _exhibit_controller_v1_Heartbeat__Output } from '../../../exhibit/controller/v1/Heartbeat.ts';

export interface ControllerMessage {
  'welcome'?: (_exhibit_controller_v1_Welcome | null);
  'capture'?: (_exhibit_controller_v1_CaptureCommand | null);
  'cancel'?: (_exhibit_controller_v1_CancelCommand | null);
  'lookup'?: (_exhibit_controller_v1_Lookup | null);
  'heartbeat'?: (_exhibit_controller_v1_Heartbeat | null);
  'message'?: "welcome"|"capture"|"cancel"|"lookup"|"heartbeat";
}

export interface ControllerMessage__Output {
  'welcome'?: (_exhibit_controller_v1_Welcome__Output | null);
  'capture'?: (_exhibit_controller_v1_CaptureCommand__Output | null);
  'cancel'?: (_exhibit_controller_v1_CancelCommand__Output | null);
  'lookup'?: (_exhibit_controller_v1_Lookup__Output | null);
  'heartbeat'?: (_exhibit_controller_v1_Heartbeat__Output | null);
  'message'?: "welcome"|"capture"|"cancel"|"lookup"|"heartbeat";
}
