// Original file: proto/exhibit/v1/agent.proto

import type { Check as _exhibit_v1_Check, Check__Output as _exhibit_v1_Check__Output } from '../../exhibit/v1/Check.ts';

export interface DoctorResponse {
  'checks'?: (_exhibit_v1_Check)[];
}

export interface DoctorResponse__Output {
  'checks': (_exhibit_v1_Check__Output)[];
}
