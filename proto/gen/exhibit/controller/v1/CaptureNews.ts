// Original file: proto/exhibit/controller/v1/link.proto

import type { CaptureEvent as _exhibit_v1_CaptureEvent, CaptureEvent__Output as _exhibit_v1_CaptureEvent__Output } from '../../../exhibit/v1/CaptureEvent.ts';

export interface CaptureNews {
  'event'?: (_exhibit_v1_CaptureEvent | null);
  'trigger'?: (string);
  'requestedBy'?: (string);
  'selector'?: (string);
  'artifacts'?: (string)[];
  'namespace'?: (string);
}

export interface CaptureNews__Output {
  'event': (_exhibit_v1_CaptureEvent__Output | null);
  'trigger': (string);
  'requestedBy': (string);
  'selector': (string);
  'artifacts': (string)[];
  'namespace': (string);
}
