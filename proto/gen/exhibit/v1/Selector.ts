// Original file: proto/exhibit/v1/agent.proto

import type { PodSelector as _exhibit_v1_PodSelector, PodSelector__Output as _exhibit_v1_PodSelector__Output } from '../../exhibit/v1/PodSelector.ts';
import type { LabelSelector as _exhibit_v1_LabelSelector, LabelSelector__Output as _exhibit_v1_LabelSelector__Output } from '../../exhibit/v1/LabelSelector.ts';

export interface Selector {
  'pod'?: (_exhibit_v1_PodSelector | null);
  'containerId'?: (string);
  'labels'?: (_exhibit_v1_LabelSelector | null);
  'pid'?: (number);
  'cgroup'?: (string);
  'unit'?: (string);
  'containerName'?: (string);
  'by'?: "pod"|"containerId"|"labels"|"pid"|"cgroup"|"unit"|"containerName";
}

export interface Selector__Output {
  'pod'?: (_exhibit_v1_PodSelector__Output | null);
  'containerId'?: (string);
  'labels'?: (_exhibit_v1_LabelSelector__Output | null);
  'pid'?: (number);
  'cgroup'?: (string);
  'unit'?: (string);
  'containerName'?: (string);
  'by'?: "pod"|"containerId"|"labels"|"pid"|"cgroup"|"unit"|"containerName";
}
