// Original file: proto/exhibit/controller/v1/link.proto

import type { PodDigests as _exhibit_controller_v1_PodDigests, PodDigests__Output as _exhibit_controller_v1_PodDigests__Output } from '../../../exhibit/controller/v1/PodDigests.ts';
import type { Long } from '@grpc/proto-loader';

export interface Heartbeat {
  'atMs'?: (number | string | Long);
  'running'?: (number);
  'waiting'?: (number);
  'pods'?: (_exhibit_controller_v1_PodDigests | null);
}

export interface Heartbeat__Output {
  'atMs': (string);
  'running': (number);
  'waiting': (number);
  'pods': (_exhibit_controller_v1_PodDigests__Output | null);
}
