// Original file: proto/exhibit/controller/v1/link.proto

import type { Hello as _exhibit_controller_v1_Hello, Hello__Output as _exhibit_controller_v1_Hello__Output } from '../../../exhibit/controller/v1/Hello.ts';
import type { Heartbeat as _exhibit_controller_v1_Heartbeat, Heartbeat__Output as _exhibit_controller_v1_Heartbeat__Output } from '../../../exhibit/controller/v1/Heartbeat.ts';
import type { Received as _exhibit_controller_v1_Received, Received__Output as _exhibit_controller_v1_Received__Output } from '../../../exhibit/controller/v1/Received.ts';
import type { Refusal as _exhibit_controller_v1_Refusal, Refusal__Output as _exhibit_controller_v1_Refusal__Output } from '../../../exhibit/controller/v1/Refusal.ts';
import type { CaptureNews as _exhibit_controller_v1_CaptureNews, CaptureNews__Output as _exhibit_controller_v1_CaptureNews__Output } from '../../../exhibit/controller/v1/CaptureNews.ts';
import type { LookupAnswer as _exhibit_controller_v1_LookupAnswer, LookupAnswer__Output as _exhibit_controller_v1_LookupAnswer__Output } from '../../../exhibit/controller/v1/LookupAnswer.ts';

export interface AgentMessage {
  'hello'?: (_exhibit_controller_v1_Hello | null);
  'heartbeat'?: (_exhibit_controller_v1_Heartbeat | null);
  'received'?: (_exhibit_controller_v1_Received | null);
  'refusal'?: (_exhibit_controller_v1_Refusal | null);
  'news'?: (_exhibit_controller_v1_CaptureNews | null);
  'lookup'?: (_exhibit_controller_v1_LookupAnswer | null);
  'message'?: "hello"|"heartbeat"|"received"|"refusal"|"news"|"lookup";
}

export interface AgentMessage__Output {
  'hello'?: (_exhibit_controller_v1_Hello__Output | null);
  'heartbeat'?: (_exhibit_controller_v1_Heartbeat__Output | null);
  'received'?: (_exhibit_controller_v1_Received__Output | null);
  'refusal'?: (_exhibit_controller_v1_Refusal__Output | null);
  'news'?: (_exhibit_controller_v1_CaptureNews__Output | null);
  'lookup'?: (_exhibit_controller_v1_LookupAnswer__Output | null);
  'message'?: "hello"|"heartbeat"|"received"|"refusal"|"news"|"lookup";
}
