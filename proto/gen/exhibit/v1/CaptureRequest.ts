// Original file: proto/exhibit/v1/agent.proto

import type { Selector as _exhibit_v1_Selector, Selector__Output as _exhibit_v1_Selector__Output } from '../../exhibit/v1/Selector.ts';

export interface CaptureRequest {
  'captureId'?: (string);
  'selector'?: (_exhibit_v1_Selector | null);
  'artifacts'?: (string)[];
  'caseId'?: (string);
  'reason'?: (string);
  'consistency'?: (string);
  'scope'?: (string);
  'sinks'?: (string)[];
  'exhibitNumber'?: (string);
  'acquirer'?: (string);
  'force'?: (boolean);
}

export interface CaptureRequest__Output {
  'captureId': (string);
  'selector': (_exhibit_v1_Selector__Output | null);
  'artifacts': (string)[];
  'caseId': (string);
  'reason': (string);
  'consistency': (string);
  'scope': (string);
  'sinks': (string)[];
  'exhibitNumber': (string);
  'acquirer': (string);
  'force': (boolean);
}
