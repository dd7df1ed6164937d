// Original file: proto/exhibit/controller/v1/controller.proto

import type { Container as _exhibit_v1_Container, Container__Output as _exhibit_v1_Container__Output } from '../../../exhibit/v1/Container.ts';

export interface PlacedContainer {
  'cluster'?: (string);
  'node'?: (string);
  'container'?: (_exhibit_v1_Container | null);
}

export interface PlacedContainer__Output {
  'cluster': (string);
  'node': (string);
  'container': (_exhibit_v1_Container__Output | null);
}
