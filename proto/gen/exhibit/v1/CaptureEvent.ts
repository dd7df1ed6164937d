// Original file: proto/exhibit/v1/agent.proto

import type { Accepted as _exhibit_v1_Accepted, Accepted__Output as _exhibit_v1_Accepted__Output } from '../../exhibit/v1/Accepted.ts';
import type { StageStarted as _exhibit_v1_StageStarted, StageStarted__Output as _exhibit_v1_StageStarted__Output } from '../../exhibit/v1/StageStarted.ts';
import type { StageProgress as _exhibit_v1_StageProgress, StageProgress__Output as _exhibit_v1_StageProgress__Output } from '../../exhibit/v1/StageProgress.ts';
import type { StageEnded as _exhibit_v1_StageEnded, StageEnded__Output as _exhibit_v1_StageEnded__Output } from '../../exhibit/v1/StageEnded.ts';
import type { Capture as _exhibit_v1_Capture, Capture__Output as _exhibit_v1_Capture__Output } from '../../exhibit/v1/Capture.ts';
import type { Long } from '@grpc/proto-loader';

export interface CaptureEvent {
  'captureId'?: (string);
  'atMs'?: (number | string | Long);
  'accepted'?: (_exhibit_v1_Accepted | null);
  'stageStarted'?: (_exhibit_v1_StageStarted | null);
  'stageProgress'?: (_exhibit_v1_StageProgress | null);
  'stageEnded'?: (_exhibit_v1_StageEnded | null);
  'ended'?: (_exhibit_v1_Capture | null);
  'event'?: "accepted"|"stageStarted"|"stageProgress"|"stageEnded"|"ended";
}

export interface CaptureEvent__Output {
  'captureId': (string);
  'atMs': (string);
  'accepted'?: (_exhibit_v1_Accepted__Output | null);
  'stageStarted'?: (_exhibit_v1_StageStarted__Output | null);
  'stageProgress'?: (_exhibit_v1_StageProgress__Output | null);
  'stageEnded'?: (_exhibit_v1_StageEnded__Output | null);
  'ended'?: (_exhibit_v1_Capture__Output | null);
  'event'?: "accepted"|"stageStarted"|"stageProgress"|"stageEnded"|"ended";
}
