// Original file: proto/exhibit/controller/v1/controller.proto

import type { Selector as _exhibit_v1_Selector, Selector__Output as _exhibit_v1_Selector__Output } from '../../../exhibit/v1/Selector.ts';

export interface CreateCaptureRequest {
  'requestId'?: (string);
  'selector'?: (_exhibit_v1_Selector | null);
  'clusters'?: (string)[];
  'node'?: (string);
  'namespace'?: (string);
  'artifacts'?: (string)[];
  'consistency'?: (string);
  'scope'?: (string);
  'sinks'?: (string)[];
  'caseId'?: (string);
  'reason'?: (string);
  'exhibitNumber'?: (string);
  'acquirer'?: (string);
  'maxTargets'?: (number);
  'dryRun'?: (boolean);
  'force'?: (boolean);
}

export interface CreateCaptureRequest__Output {
  'requestId': (string);
  'selector': (_exhibit_v1_Selector__Output | null);
  'clusters': (string)[];
  'node': (string);
  'namespace': (string);
  'artifacts': (string)[];
  'consistency': (string);
  'scope': (string);
  'sinks': (string)[];
  'caseId': (string);
  'reason': (string);
  'exhibitNumber': (string);
  'acquirer': (string);
  'maxTargets': (number);
  'dryRun': (boolean);
  'force': (boolean);
}
