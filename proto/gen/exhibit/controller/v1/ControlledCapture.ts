// Original file: proto/exhibit/controller/v1/controller.proto

import type { Approval as _exhibit_controller_v1_Approval, Approval__Output as _exhibit_controller_v1_Approval__Output } from '../../../exhibit/controller/v1/Approval.ts';
import type { Capture as _exhibit_v1_Capture, Capture__Output as _exhibit_v1_Capture__Output } from '../../../exhibit/v1/Capture.ts';
import type { Long } from '@grpc/proto-loader';

export interface ControlledCapture {
  'captureId'?: (string);
  'requestId'?: (string);
  'cluster'?: (string);
  'node'?: (string);
  'namespace'?: (string);
  'selector'?: (string);
  'state'?: (string);
  'caseId'?: (string);
  'reason'?: (string);
  'artifacts'?: (string)[];
  'requestedBy'?: (string);
  'trigger'?: (string);
  'createdAtMs'?: (number | string | Long);
  'sentAtMs'?: (number | string | Long);
  'acceptedAtMs'?: (number | string | Long);
  'endedAtMs'?: (number | string | Long);
  'expiresAtMs'?: (number | string | Long);
  'error'?: (string);
  'approvals'?: (_exhibit_controller_v1_Approval)[];
  'capture'?: (_exhibit_v1_Capture | null);
  'cancelRequested'?: (boolean);
  'force'?: (boolean);
}

export interface ControlledCapture__Output {
  'captureId': (string);
  'requestId': (string);
  'cluster': (string);
  'node': (string);
  'namespace': (string);
  'selector': (string);
  'state': (string);
  'caseId': (string);
  'reason': (string);
  'artifacts': (string)[];
  'requestedBy': (string);
  'trigger': (string);
  'createdAtMs': (string);
  'sentAtMs': (string);
  'acceptedAtMs': (string);
  'endedAtMs': (string);
  'expiresAtMs': (string);
  'error': (string);
  'approvals': (_exhibit_controller_v1_Approval__Output)[];
  'capture': (_exhibit_v1_Capture__Output | null);
  'cancelRequested': (boolean);
  'force': (boolean);
}
