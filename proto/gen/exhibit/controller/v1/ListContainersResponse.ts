// Original file: proto/exhibit/controller/v1/controller.proto

import type { PlacedContainer as _exhibit_controller_v1_PlacedContainer, PlacedContainer__Output as _exhibit_controller_v1_PlacedContainer__Output } from '../../../exhibit/controller/v1/PlacedContainer.ts';
import type { Unreached as _exhibit_controller_v1_Unreached, Unreached__Output as _exhibit_controller_v1_Unreached__Output } from '../../../exhibit/controller/v1/Unreached.ts';

export interface ListContainersResponse {
  'containers'?: (_exhibit_controller_v1_PlacedContainer)[];
  'unreached'?: (_exhibit_controller_v1_Unreached)[];
  'cut'?: (boolean);
}

export interface ListContainersResponse__Output {
  'containers': (_exhibit_controller_v1_PlacedContainer__Output)[];
  'unreached': (_exhibit_controller_v1_Unreached__Output)[];
  'cut': (boolean);
}
