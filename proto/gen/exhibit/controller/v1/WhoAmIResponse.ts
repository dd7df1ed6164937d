// Original file: proto/exhibit/controller/v1/controller.proto

import type { Grant as _exhibit_controller_v1_Grant, Grant__Output as _exhibit_controller_v1_Grant__Output } from '../../../exhibit/controller/v1/Grant.ts';

export interface WhoAmIResponse {
  'name'?: (string);
  'by'?: (string);
  'grants'?: (_exhibit_controller_v1_Grant)[];
  'controllerVersion'?: (string);
}

export interface WhoAmIResponse__Output {
  'name': (string);
  'by': (string);
  'grants': (_exhibit_controller_v1_Grant__Output)[];
  'controllerVersion': (string);
}
