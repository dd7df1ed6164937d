// Original file: proto/exhibit/v1/agent.proto

import type { StageEnded as _exhibit_v1_StageEnded, StageEnded__Output as _exhibit_v1_StageEnded__Output } from '../../exhibit/v1/StageEnded.ts';
import type { Changes as _exhibit_v1_Changes, Changes__Output as _exhibit_v1_Changes__Output } from '../../exhibit/v1/Changes.ts';
import type { Long } from '@grpc/proto-loader';

export interface Capture {
  'captureId'?: (string);
  'state'?: (string);
  'target'?: (string);
  'caseId'?: (string);
  'reason'?: (string);
  'bundleUrl'?: (string);
  'startedAtMs'?: (number | string | Long);
  'finishedAtMs'?: (number | string | Long);
  'storedBytes'?: (number | string | Long);
  'gapCount'?: (number);
  'pauseMs'?: (number | string);
  'error'?: (string);
  'stages'?: (_exhibit_v1_StageEnded)[];
  'scope'?: (string);
  'waitingSinks'?: (string)[];
  'waitingProblems'?: (string)[];
  'changes'?: (_exhibit_v1_Changes | null);
}

export interface Capture__Output {
  'captureId': (string);
  'state': (string);
  'target': (string);
  'caseId': (string);
  'reason': (string);
  'bundleUrl': (string);
  'startedAtMs': (string);
  'finishedAtMs': (string);
  'storedBytes': (string);
  'gapCount': (number);
  'pauseMs': (number);
  'error': (string);
  'stages': (_exhibit_v1_StageEnded__Output)[];
  'scope': (string);
  'waitingSinks': (string)[];
  'waitingProblems': (string)[];
  'changes': (_exhibit_v1_Changes__Output | null);
}
