// Original file: proto/exhibit/controller/v1/controller.proto

import type { Node as _exhibit_controller_v1_Node, Node__Output as _exhibit_controller_v1_Node__Output } from '../../../exhibit/controller/v1/Node.ts';

export interface ListNodesResponse {
  'nodes'?: (_exhibit_controller_v1_Node)[];
  'nextPageToken'?: (string);
  'controllerVersion'?: (string);
}

export interface ListNodesResponse__Output {
  'nodes': (_exhibit_controller_v1_Node__Output)[];
  'nextPageToken': (string);
  'controllerVersion': (string);
}
